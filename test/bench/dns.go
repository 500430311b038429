package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// What the servers of package dns know: a text.
const (
	hostname   = "whoami.test"
	recordType = "TXT"
	dnsPort    = 53
)

// Parts of a DNS message (RFC 1035, section 4.1).
const (
	headerSize = 12
	isResponse = 1 << 15 // among the flags
	rcodeMask  = 0xf
	typeTXT    = 16
	classIN    = 1
)

// query is a question for the text of hostname.
func query(id uint16) []byte {
	q := make([]byte, headerSize, 64)
	binary.BigEndian.PutUint16(q, id)
	q[5] = 1 // question
	for label := range strings.SplitSeq(hostname, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, typeTXT, 0, classIN)
}

// checkAnswer tells what is wrong with the answer to the query with this id.
func checkAnswer(id uint16, answer []byte) error {
	if len(answer) < headerSize {
		return fmt.Errorf("an answer of %d bytes", len(answer))
	}
	flags, answers := binary.BigEndian.Uint16(answer[2:]), binary.BigEndian.Uint16(answer[6:])
	switch {
	case binary.BigEndian.Uint16(answer) != id || flags&isResponse == 0:
		return errors.New("the answer to something else")
	case flags&rcodeMask != 0 || answers == 0:
		return fmt.Errorf("%d answers with the code %d", answers, flags&rcodeMask)
	}
	return nil
}

// answerTimeout is far more than an answer takes.
const answerTimeout = 500 * time.Millisecond

// ask sends a query on a connected socket and reads the answer.
func ask(conn net.Conn, id uint16) error {
	if _, err := conn.Write(query(id)); err != nil {
		return err
	}
	return readAnswer(conn, id)
}

func readAnswer(conn net.Conn, id uint16) error {
	conn.SetReadDeadline(time.Now().Add(answerTimeout))
	var buf [512]byte
	n, err := conn.Read(buf[:])
	if err != nil {
		return err
	}
	return checkAnswer(id, buf[:n])
}
