package instant

import (
	"testing"
	"time"
)

func TestThereAndBack(t *testing.T) {
	for _, age := range []time.Duration{0, time.Millisecond, time.Hour, -time.Minute} {
		then := time.Now().Add(-age)
		if back := Of(then).Time(); back.Sub(then).Abs() > time.Second/10 {
			t.Errorf("of %v ago: it is off by %v", age, back.Sub(then))
		}
	}
	if Of(time.Time{}) != 0 || !Instant(0).Time().IsZero() {
		t.Error("no time is some time")
	}
}

// Of two times the later one stays so.
func TestDistances(t *testing.T) {
	now := time.Now()
	a, b := Of(now.Add(-time.Second)), Of(now)
	if d := time.Duration(b - a); (d - time.Second).Abs() > time.Second/10 {
		t.Errorf("a second is %v", d)
	}
}
