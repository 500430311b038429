package outlier

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestErrorsAreToldInOneShortLine(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("connection refused"), "connection refused"},
		{errors.New("a\nb\x1b[31m\x7f"), "a b [31m "},
		{errors.New(strings.Repeat("é", 200)), strings.Repeat("é", 80) + "..."},
		{errors.New("x" + strings.Repeat("é", 200)), "x" + strings.Repeat("é", 79) + "?..."},
		{nil, "for a reason that is not known"},
	} {
		if got := text(c.err); got != c.want || !utf8.ValidString(got) {
			t.Errorf("%v is told as %q; want %q", c.err, got, c.want)
		}
	}
}

// Both judges have something to say, and the JSON says it too.
func TestAllThatIsKnownIsTold(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("local", addr(c))
		l.serve("cluster", addrs(c, a, b)...)
		l.set(refused, addr(a))
		l.connections(3, silent, addr(a))
		l.untilAsked(addr(a), 3)
		l.connections(2, refused, addr(b))
		list := l.d.Status()
		if len(list) != 3 || list[0].Endpoint != addr(a) || list[2].Endpoint != addr(c) {
			t.Fatalf("the list is %+v", list)
		}
		for _, part := range []string{
			"ill for ", "3 connections in a row failed (connection timed out), its back-off is 10s, a good check brings it back now",
			"3 checks in a row failed (connection refused), 2 good in a row bring it back",
		} {
			if !strings.Contains(list[0].Why, part) {
				t.Errorf("%q does not tell %q", list[0].Why, part)
			}
		}
		l.wantWhy(addr(b), "in, 2 connections failed (connection refused), 3 in a row leave it out, the last check was good")
		l.set(nil, addr(a))
		l.untilAsked(addr(a), 1)
		l.wantUsed("cluster", addrs(c, b)...)
		if why := l.d.Status()[0].Why; !strings.HasSuffix(why, "checks failed (connection refused), 1 good one of 2 that bring it back") {
			t.Errorf("it tells %q", why)
		}

		raw, err := json.Marshal(l.d.Status())
		if err != nil {
			t.Fatal(err)
		}
		var list2 []map[string]any
		if err := json.Unmarshal(raw, &list2); err != nil {
			t.Fatal(err)
		}
		out, in := list2[0], list2[1]
		if _, err := time.Parse(time.RFC3339, out["since"].(string)); err != nil || out["out"] != true || out["endpoint"] != addr(a).String() || out["withheld"].([]any)[0] != "cluster" {
			t.Errorf("the JSON is %s", raw)
		}
		if _, there := in["since"]; there || in["out"] != false || in["withheld"] != nil {
			t.Errorf("the JSON is %s", raw)
		}
	})
}
