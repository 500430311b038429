package relay

import (
	"slices"
	"syscall"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/wire"
)

// Append writes the State.
func (s *State) Append(w *wire.Writer) {
	w.Time(1, s.Started)
	w.Time(2, s.Began)
	w.Bool(3, s.Hold)
	w.Int(4, s.In)
	w.Int(5, s.Out)
	w.Message(6, s.Client.append)
	w.Message(7, s.Backend.append)
	w.Bytes(8, s.ToBackend)
	w.Bytes(9, s.ToClient)
	w.Bytes(10, s.Held)
	w.String(11, string(s.Reason))
	w.Uint(12, uint64(s.Errno))
	if s.PipeToBackend != nil {
		w.Message(13, s.PipeToBackend.append)
	}
	if s.PipeToClient != nil {
		w.Message(14, s.PipeToClient.append)
	}
}

// Read reads what Append has written.
func (s *State) Read(r *wire.Reader) error {
	for r.Next() {
		switch r.Field {
		case 1:
			s.Started = r.Time()
		case 2:
			s.Began = r.Time()
		case 3:
			s.Hold = r.Bool()
		case 4:
			s.In = r.Int()
		case 5:
			s.Out = r.Int()
		case 6:
			r.Message(s.Client.read)
		case 7:
			r.Message(s.Backend.read)
		case 8:
			s.ToBackend = slices.Clone(r.Bytes())
		case 9:
			s.ToClient = slices.Clone(r.Bytes())
		case 10:
			s.Held = slices.Clone(r.Bytes())
		case 11:
			s.Reason = observe.Reason(r.String())
		case 12:
			s.Errno = syscall.Errno(r.Uint())
		case 13:
			s.PipeToBackend = &Pipe{}
			r.Message(s.PipeToBackend.read)
		case 14:
			s.PipeToClient = &Pipe{}
			r.Message(s.PipeToClient.read)
		}
	}
	return r.Err
}

func (s *Side) append(w *wire.Writer) {
	w.Time(1, s.First)
	w.Uint(2, uint64(s.Close))
	w.Time(3, s.At)
	w.Uint(4, uint64(s.Sent))
}

func (s *Side) read(r *wire.Reader) error {
	for r.Next() {
		switch r.Field {
		case 1:
			s.First = r.Time()
		case 2:
			s.Close = observe.Close(r.Uint())
		case 3:
			s.At = r.Time()
		case 4:
			s.Sent = observe.Close(r.Uint())
		}
	}
	return r.Err
}

func (p *Pipe) append(w *wire.Writer) {
	w.Uint(1, uint64(p.R))
	w.Uint(2, uint64(p.W))
	w.Uint(3, uint64(p.Bytes))
}

func (p *Pipe) read(r *wire.Reader) error {
	for r.Next() {
		switch r.Field {
		case 1:
			p.R = int(r.Uint())
		case 2:
			p.W = int(r.Uint())
		case 3:
			p.Bytes = int(r.Uint())
		}
	}
	return r.Err
}
