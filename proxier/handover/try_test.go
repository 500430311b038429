package handover

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

func try(ctx context.Context, role string, p Parcel, patience time.Duration) error {
	return Try(ctx, self(), []string{"usher"}, []string{roleEnv + "=" + role}, p, patience)
}

func TestTrials(t *testing.T) {
	p := Parcel{State: make([]byte, 3<<20), Files: sockets(t, 3000)}
	const forever, soon = time.Minute, 500 * time.Millisecond
	for _, c := range []struct {
		role     string
		patience time.Duration
		want     []string // nothing: it passes
	}{
		{"good", forever, nil},
		{"bad", forever, []string{"trial of " + self(), "exit status 1", "its last words: cannot decode the state:; ?too ?[31mold"}},
		{"silent", forever, []string{"without saying that all is well"}},
		{"unread", forever, []string{"without saying that all is well"}},
		{"good twice", forever, []string{"exit status 1", "said already"}},
		{"good unread", forever, []string{"exit status 1", "before it was received"}},
		{"crash", forever, []string{"signal: killed"}},
		{"chatter", forever, []string{"exit status 1", "lala; that was all"}},
		{"hang", soon, []string{"it had not ended after 500ms"}},
		{"good, hang", soon, []string{"it had not ended after 500ms"}},
		{"hang unread", soon, []string{"it had not ended after 500ms"}},
		{"closes", soon, []string{"it had not ended after 500ms"}},
	} {
		t.Run(c.role, func(t *testing.T) {
			before, begin := openFiles(), time.Now()
			err := try(t.Context(), c.role, p, c.patience)
			if took := time.Since(begin); took > c.patience+5*time.Second {
				t.Errorf("it took %v", took)
			}
			if c.want == nil && err != nil {
				t.Error(err)
			}
			wantError(t, err, c.want...)
			if err != nil && len(err.Error()) > maxWords+1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if after := openFiles(); !slices.Equal(before, after) {
				t.Errorf("files before:\n%v\nafter:\n%v", before, after)
			}
			noChildren(t)
		})
	}
	if n := inheritable(p.Files); n > 0 {
		t.Errorf("%d files are not CLOEXEC", n)
	}
}

// What the child has started ends with it.
func TestTrialLeavesNoGrandchild(t *testing.T) {
	err := try(t.Context(), "parent", Parcel{}, 2*time.Second)
	wantError(t, err, "it had not ended after 2s", "child ")
	number := regexp.MustCompile(`child (\d+)`).FindStringSubmatch(err.Error())
	if number == nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(number[1])
	netns.Eventually(t, "the grandchild is gone", func() error {
		// Its new parent may be slow to wait for it.
		if stat, err := os.ReadFile("/proc/" + number[1] + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
			return errors.New("it lives: " + strconv.Itoa(pid))
		}
		return nil
	})
	noChildren(t)
}

func TestTrialIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("usher is stopping")
	time.AfterFunc(100*time.Millisecond, func() { cancel(stop) })
	if err := try(ctx, "hang", Parcel{}, time.Minute); !errors.Is(err, stop) {
		t.Error(err)
	}
	noChildren(t)
}

// A process whose environment tells of a trial that there is not never serves.
func TestBrokenTrial(t *testing.T) {
	for _, value := range []string{"", "x", "0", "9"} {
		r := play(t, "forged", nil, []string{trialEnv + "=" + value})
		if !strings.Contains(r.Err, trialEnv) {
			t.Errorf("%q: %s", value, r.Err)
		}
	}
	wantError(t, Good(), "not in a trial")
}

func noChildren(t *testing.T) {
	t.Helper()
	if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
		t.Errorf("there is a child: %v", err)
	}
}
