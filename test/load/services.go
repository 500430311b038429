package load

import "time"

// Services are those that a load is for.
type Services struct {
	Bulk, Web, Database, Names *Service
	sticky, narrow, slow, ill  *Service // of a whole one
}

// NewServices are a site's, with all of its pods as endpoints.
func NewServices(s *Site) Services {
	all := s.Pods
	return Services{
		Bulk:     &Service{Name: "bulk", N: 1, Protocol: "TCP", Port: 7001, Pods: all},
		Web:      &Service{Name: "web", N: 2, Protocol: "TCP", Port: 7002, Pods: all},
		Database: &Service{Name: "database", N: 3, Protocol: "TCP", Port: 7003, Pods: all},
		sticky:   &Service{Name: "sticky", N: 4, Protocol: "TCP", Port: 7004, Pods: all, Sticky: true},
		narrow:   &Service{Name: "narrow", N: 5, Protocol: "TCP", Port: 7005, Pods: all, Asks: map[string]string{"max-connections": "3", "on-limit": "wait:25s"}},
		// The first does not answer.
		slow: &Service{Name: "slow", N: 6, Protocol: "TCP", Port: 7006, Pods: all[:2], shuns: all[silent], Asks: map[string]string{
			"balancer": "first", "connect-timeout": "1s", "passive-health": "off", "retry-budget": "1000%,100/s",
		}},
		ill:   &Service{Name: "ill", N: 7, Protocol: "TCP", Port: 7007, Pods: all, Asks: map[string]string{"passive-health": "consecutive-failures=1,base=1h,max=2h"}},
		Names: &Service{Name: "names", N: 8, Protocol: "UDP", Port: 7008, Pods: all},
	}
}

// A Size says how much there is of each part of a load.
type Size struct {
	Streams, Stalled int           // of all streams, those with a reader that stalls
	Statements       int           // connections with a statement
	Every            time.Duration // one such statement
	Requests         int           // a second
	Sockets          int           // that ask by datagrams, 50 times a second each
	Corners          bool          // who waits, stays with his endpoint or may not get one
}

var (
	// Small is some of everything that lasts.
	Small = Size{Streams: 16, Stalled: 6, Statements: 10, Every: 200 * time.Millisecond, Requests: 50, Sockets: 8}
	// Full is what a busy node has.
	Full = Size{Streams: 50, Stalled: 20, Statements: 100, Every: time.Second, Requests: 200, Sockets: 40}
	// Whole is Full with its corners.
	Whole = Size{Streams: 50, Stalled: 20, Statements: 100, Every: time.Second, Requests: 200, Sockets: 40, Corners: true}
)

// Begin has everybody talk, once usher serves the Services that it writes.
func Begin(s *Site, size Size) *Load {
	s.t.Helper()
	l := newLoad(s)
	s.Write("load.yaml", l.Bulk, l.Web, l.Database, l.Names)
	for _, pod := range s.Pods {
		serve(s.t, pod, l.Web.Port, answer(pod))
		serve(s.t, pod, l.Database.Port, databaseServer)
	}
	l.prepareStreams(l.Bulk, size.Streams, size.Stalled)
	for _, client := range s.Clients {
		s.awaitAnswer(client, l.Web)
	}
	if size.Corners {
		l.beginCorners()
	}
	l.beginStreams(l.Bulk)
	l.Statements(l.Database, size.Statements, size.Every)
	l.requests(l.Web, size.Requests, &l.delay)
	l.datagrams(l.Names, size.Sockets, 20*time.Millisecond)
	return l
}
