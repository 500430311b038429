package bench

import "testing"

func TestQuery(t *testing.T) {
	const want = "\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06whoami\x04test\x00\x00\x10\x00\x01"
	if got := string(query(0x1234)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCheckAnswer(t *testing.T) {
	for answer, good := range map[string]bool{
		"\x00\x07\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00": true,
		"\x00\x08\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00": false, // to another query
		"\x00\x07\x04\x00\x00\x01\x00\x01\x00\x00\x00\x00": false, // a query
		"\x00\x07\x84\x05\x00\x01\x00\x01\x00\x00\x00\x00": false, // refused
		"\x00\x07\x84\x00\x00\x01\x00\x00\x00\x00\x00\x00": false, // no answer in it
		"\x00\x07\x84": false, // cut off
	} {
		if err := checkAnswer(7, []byte(answer)); (err == nil) != good {
			t.Errorf("%q: %v", answer, err)
		}
	}
}
