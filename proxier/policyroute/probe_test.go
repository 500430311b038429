package policyroute

import "testing"

func TestProbeLeavesNothing(t *testing.T) {
	m := newMachine(t, Options{})
	before := m.state()
	m.Do(func() {
		for range 2 {
			if err := Probe(); err != nil {
				t.Error(err)
			}
		}
	})
	if after := m.state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// What the kernel should have can be read, and what it lacks.
func TestTextAndDifferences(t *testing.T) {
	m := newMachine(t, Options{AnyIP: false})
	web := Destination{Addr: sources[IPv4].Next(), Protocol: TCP, Port: 80}
	m.sync(false, web)
	m.Do(func() {
		if got, err := m.router.Differences(IPv4); len(got) > 0 || err != nil {
			t.Errorf("differences %q, %v", got, err)
		}
	})
	m.Run("ip", "rule", "del", "ipproto", "tcp", "dport", "80")
	m.Run("ip", "route", "add", "local", "192.0.2.77", "dev", "lo", "table", "1970470992", "proto", "118")
	m.Do(func() {
		got, err := m.router.Differences(IPv4)
		if err != nil || len(got) != 2 {
			t.Errorf("differences %q, %v", got, err)
		}
		t.Log(got)
	})
	t.Log(m.router.Text(IPv4))
	if m.router.Text(IPv6) != "" {
		t.Errorf("nothing is wanted in IPv6, and there is %s", m.router.Text(IPv6))
	}
	m.sync(true, web)
	m.Do(func() {
		if got, err := m.router.Differences(IPv4); len(got) > 0 || err != nil {
			t.Errorf("after the repair: %q, %v", got, err)
		}
	})
}
