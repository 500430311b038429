package laststate

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// decode reads a state of o from r, all of it or none. It unpacks no more than most bytes.
func decode(r io.Reader, o Owner, most int64) (State, error) {
	lines := bufio.NewReader(r)
	if err := checkFormat(lines); err != nil {
		return State{}, err
	}
	zip, err := gzip.NewReader(lines)
	if err != nil {
		return State{}, damaged(err)
	}
	zip.Multistream(false)
	bounded := &io.LimitedReader{R: zip, N: most}
	records := bufio.NewReaderSize(bounded, 64<<10)
	s, err := readRecords(records, o)
	if err == nil {
		err = readEnd(records)
	}
	if bounded.N == 0 {
		err = fmt.Errorf("it holds more than %d MiB", most>>20)
	}
	if err != nil {
		return State{}, err
	}
	return s, nil
}

// readEnd reads the end of the stream. Only there does it tell whether its checksum is right.
func readEnd(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d bytes follow its end", n)
	}
	return damaged(err)
}

// checkFormat reads the first line.
func checkFormat(r *bufio.Reader) error {
	const longest = len(firstLine) + 20
	if begin, err := r.Peek(len(firstLine)); err != nil || string(begin) != firstLine {
		return errors.New("it is no last state of usher")
	}
	var line strings.Builder
	for line.Len() < longest {
		b, err := r.ReadByte()
		if err != nil {
			return damaged(err)
		}
		if b == '\n' {
			break
		}
		line.WriteByte(b)
	}
	text := strings.TrimPrefix(line.String(), firstLine)
	version, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return fmt.Errorf("it is damaged: %q is no number of a format", text)
	case version != format:
		return fmt.Errorf("it is of another version of usher: it has format %d, and this one reads %d", version, format)
	}
	return nil
}

// readRecords reads them all, and finds out early if they are somebody else's.
func readRecords(r *bufio.Reader, o Owner) (s State, err error) {
	var content []byte
	seen := map[string]bool{}
	for first := true; ; first = false {
		var kind byte
		if kind, content, err = readRecord(r, content); err != nil {
			return s, damaged(err)
		}
		if first != (kind == headerRecord) {
			return s, damaged(errors.New("its header is not at its beginning"))
		}
		switch kind {
		case headerRecord:
			err = s.readHeader(content, o)
		case endRecord:
			return s, nil
		default:
			err = damaged(s.add(kind, content, seen))
		}
		if err != nil {
			return s, err
		}
	}
}

// readRecord reads one into buffer, if that is large enough.
func readRecord(r *bufio.Reader, buffer []byte) (kind byte, content []byte, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	if size > maxRecord {
		return 0, nil, fmt.Errorf("a record of %d bytes", size)
	}
	if uint64(cap(buffer)) < size {
		buffer = make([]byte, size)
	}
	content = buffer[:size]
	_, err = io.ReadFull(r, content)
	return kind, content, err
}

func (s *State) readHeader(content []byte, o Owner) error {
	var h header
	if err := json.Unmarshal(content, &h); err != nil {
		return damaged(err)
	}
	if other := o.differs(h.Owner); other != "" {
		return fmt.Errorf("it is that of %s", other)
	}
	s.AsOf = h.AsOf
	return nil
}

// add adds an object. seen has the names of those before: each may be there once.
func (s *State) add(kind byte, content []byte, seen map[string]bool) error {
	var err error
	var namespace, name string
	switch kind {
	case serviceRecord:
		service := &corev1.Service{}
		err = service.Unmarshal(content)
		s.Services = append(s.Services, service)
		namespace, name = service.Namespace, service.Name
	case sliceRecord:
		slice := &discoveryv1.EndpointSlice{}
		err = slice.Unmarshal(content)
		s.Slices = append(s.Slices, slice)
		namespace, name = slice.Namespace, slice.Name
	case nodeRecord:
		s.Node = &corev1.Node{}
		err = s.Node.Unmarshal(content)
		name = s.Node.Name
	default:
		err = fmt.Errorf("a record of the kind %q", kind)
	}
	if err != nil {
		return err
	}
	key := string(kind) + namespace + "/" + name
	if name == "" || seen[key] {
		return fmt.Errorf("an object %q without a name, or twice", key)
	}
	seen[key] = true
	return nil
}

// damaged says what an error means that comes from what is in the file.
func damaged(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it is cut off")
	}
	return fmt.Errorf("it is damaged: %w", err)
}
