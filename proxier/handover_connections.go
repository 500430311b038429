package proxier

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/wire"
)

// carriedConnections are those of a parcel, beside the rest as they are many.
type carriedConnections struct {
	written []byte // by appendConnections, nil once the list was read
	list    []carriedConnection
	files   []int // the parcel's first ones, by place; -1: it was taken
	places  int   // how many there are to be
}

// place adds a file, and returns its place.
func (c *carriedConnections) place(fd int) int {
	c.files = append(c.files, fd)
	return len(c.files)
}

// placePipes is a state with places instead of files, which may yet go on here.
func (c *carriedConnections) placePipes(s *relay.State) *relay.State {
	if s == nil || s.PipeToBackend == nil && s.PipeToClient == nil {
		return s
	}
	placed := *s
	for _, p := range []**relay.Pipe{&placed.PipeToBackend, &placed.PipeToClient} {
		if *p != nil {
			*p = &relay.Pipe{R: c.place((*p).R), W: c.place((*p).W), Bytes: (*p).Bytes}
		}
	}
	return &placed
}

func (c *carriedConnections) append(w *wire.Writer) {
	w.Uint(fieldPlaces, uint64(len(c.files)))
	w.Bytes(fieldConnections, c.written)
}

func (c *carriedConnections) readField(r *wire.Reader) {
	switch r.Field {
	case fieldPlaces:
		c.places = int(r.Uint())
	case fieldConnections:
		c.written = r.Bytes()
	}
}

// read reads the list, unless that was done.
func (c *carriedConnections) read() (err error) {
	if c.written == nil {
		return nil
	}
	if c.list, err = readConnections(c.written); err != nil {
		return fmt.Errorf("the connections that were handed over cannot be read: %w", err)
	}
	c.written = nil
	return nil
}

// take returns a file, which is the caller's from then on. It is there once.
func (c *carriedConnections) take(place int) (fd int, ok bool) {
	if place < 1 || place > len(c.files) || c.files[place-1] < 0 {
		return -1, false
	}
	fd, c.files[place-1] = c.files[place-1], -1
	return fd, true
}

// takePipes puts files in the place of their places.
func (c *carriedConnections) takePipes(s *relay.State) error {
	for _, p := range []*relay.Pipe{s.PipeToBackend, s.PipeToClient} {
		if p == nil {
			continue
		}
		var ok, too bool
		p.R, ok = c.take(p.R)
		if p.W, too = c.take(p.W); !ok || !too {
			return errors.New("what is in a pipe was not handed over")
		}
	}
	return nil
}

func (c *carriedConnections) close() {
	for _, fd := range c.files {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	c.files = nil
}

// own takes a parcel's files over, of which the first ones have places, and returns the others.
func (c *carriedConnections) own(files []int) (others []int, err error) {
	if c.places < 0 || c.places > len(files) {
		return files, fmt.Errorf("%d files came along, which were to be %d and more", len(files), c.places)
	}
	c.files = files[:c.places]
	return files[c.places:], nil
}

// earlyParcel is what rested early.
type earlyParcel struct {
	carriedConnections
	rest []int // files without a place
}

// readEarly takes an early parcel over. With an error its files are closed.
func readEarly(p handover.Parcel) (*earlyParcel, error) {
	e := &earlyParcel{}
	r := wire.NewReader(p.State)
	for r.Next() {
		e.readField(r)
	}
	var err error
	e.rest, err = e.own(p.Files)
	if err = errors.Join(r.Err, err, e.read()); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Close closes what nobody has taken. e may be nil.
func (e *earlyParcel) Close() {
	if e != nil {
		e.close()
		handover.NewFiles(e.rest).Close()
	}
}
