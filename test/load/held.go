package load

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// held are connections that live through all upgrades, as usher had them before the first.
type held []*heldConnection

type heldConnection struct {
	ID      string
	Client  string
	Service string
	Started time.Time
	in, out func() int64 // bytes, once they have ended
}

// held asks usher for the connections of streams and statements.
func (l *Load) held() (all held) {
	l.site.t.Helper()
	var list []*heldConnection
	l.site.AskJSON(&list, "get", "connections")
	byClient := map[string]*heldConnection{}
	for _, one := range list {
		byClient[one.Client] = one
	}
	find := func(client string, in, out func() int64) {
		one := byClient[client]
		if one == nil {
			l.site.t.Fatalf("usher does not have the connection of %s", client)
		}
		one.in, one.out = in, out
		all = append(all, one)
	}
	for _, of := range l.streams {
		first := int64(len(fmt.Sprintln(of.number)))
		find(of.client.LocalAddr().String(), func() int64 { return first + of.up.sent.bytes }, func() int64 { return of.down.sent.bytes })
	}
	for _, of := range l.statements {
		find(of.c.LocalAddr().String(), func() int64 { return of.in }, func() int64 { return of.out })
	}
	return all
}

// areTold wants each to have a record in a log that has all of it.
func (all held) areTold(s *Site, log func() string) {
	s.t.Helper()
	var byID map[string]usher.Record
	netns.EventuallyWithin(s.t, patience, "every connection has its record", func() error {
		byID = map[string]usher.Record{}
		for _, r := range usher.RecordsIn(log()) {
			byID[r.ID] = r
		}
		for _, one := range all {
			if _, ok := byID[one.ID]; !ok {
				return fmt.Errorf("%s: no record has the ID %s", one.Client, one.ID)
			}
		}
		return nil
	})
	for _, one := range all {
		r := byID[one.ID]
		lasted := time.Duration(r.DurationMS * float64(time.Millisecond))
		switch {
		case r.Service != one.Service || clientOf(r) != one.Client:
			s.t.Errorf("%s: its record is %+v", one.Client, r)
		case r.BytesIn != one.in() || r.BytesOut != one.out():
			s.t.Errorf("%s, %s: the record has %d and %d bytes, there were %d and %d", one.Service, one.Client, r.BytesIn, r.BytesOut, one.in(), one.out())
		case lasted < time.Since(one.Started)-30*time.Second || lasted > time.Since(one.Started):
			s.t.Errorf("%s, %s: the record says that it lasted %v, it began %v ago", one.Service, one.Client, lasted, time.Since(one.Started))
		case r.Reason != "ok":
			s.t.Errorf("%s, %s: it has ended by %s", one.Service, one.Client, r.Reason)
		}
	}
}

func clientOf(r usher.Record) string {
	return netip.AddrPortFrom(netip.MustParseAddr(cmp.Or(r.ClientIP, "::")), uint16(r.ClientPort)).String()
}
