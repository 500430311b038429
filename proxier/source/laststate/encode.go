package laststate

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// encode writes a state of o to w.
func encode(w io.Writer, o Owner, s State) error {
	if _, err := fmt.Fprintf(w, "%s%d\n", firstLine, format); err != nil {
		return err
	}
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(zip, 64<<10)
	if err := writeRecords(buffered, o, s); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return zip.Close()
}

func writeRecords(w io.Writer, o Owner, s State) error {
	enc := encoder{w: w}
	head, err := json.Marshal(header{o, s.AsOf.UTC()})
	if err != nil {
		return err
	}
	enc.record(headerRecord, head)
	for _, service := range s.Services {
		enc.object(serviceRecord, service)
	}
	for _, slice := range s.Slices {
		enc.object(sliceRecord, slice)
	}
	if s.Node != nil {
		enc.object(nodeRecord, s.Node)
	}
	enc.record(endRecord, nil)
	return enc.err
}

// encoder writes records until one fails.
type encoder struct {
	w       io.Writer
	scratch []byte
	err     error
}

// marshaler is an object of the API: generated code that writes to the end of a buffer.
type marshaler interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	GetNamespace() string
	GetName() string
}

func (e *encoder) object(kind byte, o marshaler) {
	if e.err != nil {
		return
	}
	size := o.Size()
	if size > maxRecord {
		e.err = fmt.Errorf("%s/%s takes %d MiB", o.GetNamespace(), o.GetName(), size>>20)
		return
	}
	if cap(e.scratch) < size {
		e.scratch = make([]byte, size)
	}
	buffer := e.scratch[:cap(e.scratch)]
	n, err := o.MarshalToSizedBuffer(buffer)
	if err != nil {
		e.err = err
		return
	}
	e.record(kind, buffer[len(buffer)-n:])
}

func (e *encoder) record(kind byte, content []byte) {
	if e.err != nil {
		return
	}
	var head [1 + binary.MaxVarintLen64]byte
	head[0] = kind
	n := 1 + binary.PutUvarint(head[1:], uint64(len(content)))
	if _, e.err = e.w.Write(head[:n]); e.err == nil {
		_, e.err = e.w.Write(content)
	}
}
