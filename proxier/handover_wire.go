package proxier

import (
	"time"

	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/wire"
)

func (c *carriedConnection) append(w *wire.Writer) {
	w.Uint(1, uint64(c.Listener))
	w.Uint(2, uint64(c.Client))
	w.Uint(3, uint64(c.Backend))
	if c.Relay != nil {
		w.Message(4, c.Relay.Append)
	}
	w.Message(5, c.Record.Append)
	w.Int(6, int64(c.Attempt))
	w.Bool(7, c.KeepSource)
	w.Bool(8, c.Hedged)
	w.Bool(9, c.Noted)
	w.Bool(10, c.Settled)
	w.Bool(11, c.Admitted)
	w.Int(12, int64(c.Wait))
}

func (c *carriedConnection) read(r *wire.Reader) error {
	for r.Next() {
		switch r.Field {
		case 1:
			c.Listener = int(r.Uint())
		case 2:
			c.Client = int(r.Uint())
		case 3:
			c.Backend = int(r.Uint())
		case 4:
			c.Relay = &relay.State{}
			r.Message(c.Relay.Read)
		case 5:
			r.Message(c.Record.Read)
		case 6:
			c.Attempt = time.Duration(r.Int())
		case 7:
			c.KeepSource = r.Bool()
		case 8:
			c.Hedged = r.Bool()
		case 9:
			c.Noted = r.Bool()
		case 10:
			c.Settled = r.Bool()
		case 11:
			c.Admitted = r.Bool()
		case 12:
			c.Wait = time.Duration(r.Int())
		}
	}
	return r.Err
}

// appendConnections writes a list of them, for readConnections.
func appendConnections(list []carriedConnection) []byte {
	var w wire.Writer
	for i := range list {
		w.Message(1, list[i].append)
	}
	return w.B
}

func readConnections(b []byte) (list []carriedConnection, err error) {
	r := wire.NewReader(b)
	for r.Next() {
		if r.Field == 1 {
			list = append(list, carriedConnection{})
			r.Message(list[len(list)-1].read)
		}
	}
	return list, r.Err
}
