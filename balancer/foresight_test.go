package balancer

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Whatever a Picker foresees is what it then picks, and asking changes nothing.
func TestWhatIsForeseenComesTrue(t *testing.T) {
	client := netip.MustParseAddr("10.1.2.3")
	endpoints := []Endpoint{
		{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1},
		{Addr: netip.MustParseAddrPort("10.0.0.2:80"), Weight: 3},
		{Addr: netip.MustParseAddrPort("10.0.0.3:80"), Weight: 4},
	}
	for name, certain := range map[string]int{roundRobinName: 1, maglevName: 3, firstName: 3, randomName: 0} {
		for _, bound := range []bool{false, true} {
			policy, err := New(name)
			if err != nil {
				t.Fatal(err)
			}
			picker := policy.Picker(endpoints)
			if bound {
				picker = NewAffinity(10).Picker(picker, endpoints, time.Hour)
			}
			foresight := picker.(Foresight)
			for round := range 20 {
				order := foresight.Foresee(Request{Client: client})
				if again := foresight.Foresee(Request{Client: client}); !slices.Equal(order, again) {
					t.Fatalf("%s: %v, asked again %v", name, order, again)
				}
				want := certain
				if bound && round > 0 && name != maglevName && name != firstName {
					want = 1 // the one that the client has
				}
				if len(order) != want {
					t.Fatalf("%s, bound %v: it foresees %d, want %d", name, bound, len(order), want)
				}
				var tried []netip.AddrPort
				for i, e := range order {
					if bound && i > 0 {
						break // a retry binds the client to another one
					}
					pick, err := picker.Pick(Request{Client: client, Tried: tried})
					if err != nil || pick.Endpoint != e {
						t.Fatalf("%s: attempt %d came to %v, %v; %v was foreseen", name, i, pick.Endpoint, err, e)
					}
					tried = append(tried, e.Addr)
				}
				if len(order) == 0 {
					if _, err := picker.Pick(Request{Client: client}); err != nil {
						t.Fatal(err)
					}
				}
			}
			shares := []float64{foresight.Share(endpoints[0].Addr), foresight.Share(endpoints[1].Addr), foresight.Share(endpoints[2].Addr), foresight.Share(netip.AddrPort{})}
			want := []float64{0.125, 0.375, 0.5, 0}
			if name == firstName {
				want = []float64{1, 0, 0, 0}
			}
			if !slices.Equal(shares, want) {
				t.Errorf("%s: the shares are %v, want %v", name, shares, want)
			}
		}
	}
}

// Policies that decide by load foresee nothing, and nothing is foreseen of no endpoints.
func TestWhatCannotBeForeseen(t *testing.T) {
	for _, name := range []string{leastConnectionsName, p2cName, latencyName} {
		policy, _ := New(name)
		if _, ok := policy.Picker(nil).(Foresight); ok {
			t.Errorf("%s claims to know", name)
		}
		around := NewAffinity(1).Picker(policy.Picker(nil), nil, time.Hour).(Foresight)
		if order, share := around.Foresee(Request{}), around.Share(netip.AddrPort{}); order != nil || share != 0 {
			t.Errorf("%s: %v, %v", name, order, share)
		}
	}
	for _, name := range []string{roundRobinName, randomName, maglevName, firstName} {
		policy, _ := New(name)
		picker := policy.Picker(nil).(Foresight)
		_, err := picker.Pick(Request{})
		if order := picker.Foresee(Request{Client: netip.MustParseAddr("::1")}); len(order) != 0 || picker.Share(netip.AddrPort{}) != 0 || !errors.Is(err, ErrNoEndpoints) {
			t.Errorf("%s: %v, %v", name, order, err)
		}
	}
}

func TestWhereAClientWasSent(t *testing.T) {
	a, client := NewAffinity(2), netip.MustParseAddr("::ffff:10.0.0.1")
	if _, _, known := a.Of(client); known {
		t.Error("nobody was sent anywhere")
	}
	e := Endpoint{Addr: netip.MustParseAddrPort("10.0.0.9:80")}
	if _, err := a.Picker(firstPicker{e}, []Endpoint{e}, time.Hour).Pick(Request{Client: client}); err != nil {
		t.Fatal(err)
	}
	if to, ago, known := a.Of(client.Unmap()); !known || to != e.Addr || ago < 0 || ago > time.Minute {
		t.Errorf("%v, %v ago, %v", to, ago, known)
	}
}
