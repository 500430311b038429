package cli

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/usher-proxy/usher/proxier/admin"
)

// topService is a Service port. Rates are per second, -1 before there are two answers.
type topService struct {
	Namespace string  `json:"namespace"`
	Service   string  `json:"service"`
	PortName  string  `json:"port_name"`
	Protocol  string  `json:"protocol"`
	Active    int64   `json:"active"`
	Waiting   int64   `json:"waiting"`
	Opened    float64 `json:"opened_per_second"`
	In        float64 `json:"bytes_in_per_second"`
	Out       float64 `json:"bytes_out_per_second"`
	Retries   float64 `json:"retries_per_second"`
	Trouble   float64 `json:"trouble_per_second"`
	P50       float64 `json:"connect_p50_ms"` // -1: none has ended of late
	P99       float64 `json:"connect_p99_ms"`
}

// topEndpoint is what an endpoint of a Service has had.
type topEndpoint struct {
	Namespace string  `json:"namespace"`
	Service   string  `json:"service"`
	Endpoint  string  `json:"endpoint"`
	Pod       string  `json:"pod"`
	State     string  `json:"state"`
	Why       string  `json:"why"`
	Active    int     `json:"active"`
	Opened    float64 `json:"opened_per_second"`
	Bytes     float64 `json:"bytes_per_second"`
	Trouble   int     `json:"trouble"`
	Failed    int     `json:"failed"` // attempts to connect
}

// topClient is what a client has had, of all Services.
type topClient struct {
	Client   string  `json:"client"`
	Pod      string  `json:"pod"`
	Kind     string  `json:"kind"`
	Services int     `json:"services"` // that it talked to
	Active   int     `json:"active"`
	Opened   float64 `json:"opened_per_second"`
	Bytes    float64 `json:"bytes_per_second"`
	Trouble  int     `json:"trouble"`
	Failed   int     `json:"failed"`

	talkedTo map[string]bool
}

// newBoards are those of topViews.
func newBoards() []board {
	return []board{
		&boardOf[topService]{made: topServices, columns: []column[topService]{
			{title: "SERVICE", cell: func(r *topService) string {
				return serviceOf(r.Namespace, r.Service, cmp.Or(r.PortName, r.Protocol))
			}},
			rate("CONN/S", "", func(r *topService) float64 { return r.Opened }),
			numeric("ACTIVE", func(r *topService) int64 { return r.Active }),
			rate("IN/S", "B", func(r *topService) float64 { return r.In }),
			rate("OUT/S", "B", func(r *topService) float64 { return r.Out }),
			rate("RETRY/S", "", func(r *topService) float64 { return r.Retries }),
			rate("TRBL/S", "", func(r *topService) float64 { return r.Trouble }),
			connectTime("P50", func(r *topService) float64 { return r.P50 }),
			connectTime("P99", func(r *topService) float64 { return r.P99 }),
		}},
		&boardOf[topEndpoint]{made: topEndpoints, columns: []column[topEndpoint]{
			{title: "SERVICE", cell: func(r *topEndpoint) string { return r.Namespace + "/" + r.Service }},
			{title: "ENDPOINT", cell: func(r *topEndpoint) string { return r.Endpoint }},
			{title: "POD", cell: func(r *topEndpoint) string { return r.Pod }},
			{title: "STATE", cell: func(r *topEndpoint) string { return r.State }},
			rate("CONN/S", "", func(r *topEndpoint) float64 { return r.Opened }),
			numeric("ACTIVE", func(r *topEndpoint) int { return r.Active }),
			rate("BYTES/S", "B", func(r *topEndpoint) float64 { return r.Bytes }),
			numeric("TRBL", func(r *topEndpoint) int { return r.Trouble }),
			numeric("FAILED", func(r *topEndpoint) int { return r.Failed }),
		}},
		&boardOf[topClient]{made: topClients, columns: []column[topClient]{
			{title: "CLIENT", cell: func(r *topClient) string { return r.Client }},
			{title: "POD", cell: func(r *topClient) string { return cmp.Or(r.Pod, r.Kind) }},
			rate("CONN/S", "", func(r *topClient) float64 { return r.Opened }),
			numeric("ACTIVE", func(r *topClient) int { return r.Active }),
			rate("BYTES/S", "B", func(r *topClient) float64 { return r.Bytes }),
			numeric("SERVICES", func(r *topClient) int { return r.Services }),
			numeric("TRBL", func(r *topClient) int { return r.Trouble }),
			numeric("FAILED", func(r *topClient) int { return r.Failed }),
		}},
	}
}

// rate is a column of numbers that may be unknown: -1.
func rate[R any](title, unit string, of func(*R) float64) column[R] {
	return column[R]{title: title, order: by(of), cell: func(r *R) string {
		switch n := of(r); {
		case n < 0:
			return "-"
		case unit == "" && n > 0 && n < 100:
			return strconv.FormatFloat(n, 'f', 1, 64)
		default:
			return quantity(float64(int64(n)), unit)
		}
	}}
}

// connectTime is a column of milliseconds that may be unknown: -1. To an endpoint on the
// same node they are hundredths of one.
func connectTime[R any](title string, of func(*R) float64) column[R] {
	c := rate(title, "", of)
	most := c.cell
	c.cell = func(r *R) string {
		if ms := of(r); ms >= 0 && ms < 1 {
			return strconv.FormatFloat(ms, 'f', 2, 64)
		}
		return most(r)
	}
	return c
}

// portKey tells Service ports apart.
type portKey struct{ namespace, service, port, protocol string }

func topServices(now, before *topAnswer) []topService {
	old := map[portKey]*admin.Traffic{}
	dt := 0.0
	if before != nil {
		dt = now.traffic.Time.Sub(before.traffic.Time).Seconds()
		for i := range before.traffic.Ports {
			p := &before.traffic.Ports[i]
			old[portKey{p.Namespace, p.Service, p.PortName, p.Protocol}] = &p.Traffic
		}
	}
	rows := make([]topService, 0, len(now.traffic.Ports))
	for _, p := range now.traffic.Ports {
		was := old[portKey{p.Namespace, p.Service, p.PortName, p.Protocol}]
		if was == nil {
			was = &admin.Traffic{} // it has had no traffic before
		}
		r := topService{
			Namespace: p.Namespace, Service: p.Service, PortName: p.PortName, Protocol: p.Protocol, Active: p.Active, Waiting: p.Waiting,
			Opened: perSecond(p.Opened, was.Opened, dt), In: perSecond(p.BytesIn, was.BytesIn, dt), Out: perSecond(p.BytesOut, was.BytesOut, dt),
			Retries: perSecond(p.Retries, was.Retries, dt), Trouble: perSecond(p.Trouble, was.Trouble, dt), P50: -1, P99: -1,
		}
		if p.Recent != nil {
			r.P50, r.P99 = p.Recent.ConnectP50, p.Recent.ConnectP99
		}
		rows = append(rows, r)
	}
	return rows
}

// perSecond is how fast something grows: -1 if nobody knows, 0 if it has begun anew, as
// after a restart.
func perSecond(now, before uint64, dt float64) float64 {
	switch {
	case dt <= 0:
		return -1
	case now < before:
		return 0
	}
	return float64(now-before) / dt
}

// mean is per second of a time that may be none.
func mean[N int | int64](n N, dt float64) float64 {
	if dt <= 0 {
		return -1
	}
	return float64(n) / dt
}

func topEndpoints(now, _ *topAnswer) []topEndpoint {
	rows := map[string]*topEndpoint{}
	row := func(namespace, service, endpoint, pod string) *topEndpoint {
		key := namespace + "/" + service + "/" + endpoint
		if rows[key] == nil {
			rows[key] = &topEndpoint{Namespace: namespace, Service: service, Endpoint: endpoint, Pod: pod, Opened: -1, Bytes: -1}
		}
		return rows[key]
	}
	for _, p := range now.ports {
		for _, e := range p.Endpoints {
			r := row(p.Namespace, p.Service, e.Address, e.Pod)
			r.State, r.Why, r.Opened, r.Bytes = string(e.State), e.Why, 0, 0
			if e.Connections != nil {
				r.Active = *e.Connections
			}
		}
	}
	for _, e := range now.talk.Edges {
		if e.Endpoint == "" {
			continue
		}
		r := row(e.Namespace, e.Service, e.Endpoint, e.Pod)
		if r.State == "" {
			r.Active += e.Active // no EndpointSlice names it any more
		}
		r.Opened = max(r.Opened, 0) + mean(e.Count, now.talk.Seconds)
		r.Bytes = max(r.Bytes, 0) + mean(e.Bytes, now.talk.Seconds)
		r.Trouble += e.Trouble
		r.Failed += e.Failed
	}
	return values(rows)
}

func topClients(now, _ *topAnswer) []topClient {
	rows := map[string]*topClient{}
	for _, e := range now.talk.Edges {
		r := rows[e.Client]
		if r == nil {
			r = &topClient{Client: e.Client, Pod: e.ClientPod, Kind: e.ClientKind, talkedTo: map[string]bool{}}
			rows[e.Client] = r
		}
		r.talkedTo[e.Namespace+"/"+e.Service] = true
		r.Services = len(r.talkedTo)
		r.Active += e.Active
		r.Opened += mean(e.Count, now.talk.Seconds)
		r.Bytes += mean(e.Bytes, now.talk.Seconds)
		r.Trouble += e.Trouble
		r.Failed += e.Failed
	}
	return values(rows)
}

// values are those of a map, by key.
func values[R any](of map[string]*R) []R {
	list := make([]R, 0, len(of))
	for _, key := range slices.Sorted(maps.Keys(of)) {
		list = append(list, *of[key])
	}
	return list
}
