package handover

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ends are the two sides of a take-over.
func ends(t *testing.T) (old, young *net.UnixConn) {
	t.Helper()
	old, fd, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { old.Close() })
	young, err = unixConn(fd)
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { young.Close() })
	young.SetDeadline(time.Now().Add(10 * time.Second))
	return old, young
}

// giving gives p, and tells how that ended. It goes on by kept if p is not taken.
func (wait patience) giving(conn *net.UnixConn, p Parcel, kept func()) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := wait.give(conn, Parcel{State: []byte("trial")}, func(early, carry func(Parcel) error) error {
			half := len(p.Files) / 2
			err := early(Parcel{State: []byte("early"), Files: p.Files[:half]})
			if err == nil {
				err = carry(Parcel{State: p.State, Files: p.Files[half:]})
			}
			if err != nil {
				kept()
			}
			return err
		})
		conn.Close()
		ended <- err
	}()
	return ended
}

func TestTakeOver(t *testing.T) {
	before := len(openFiles())
	files := sockets(t, 600)
	old, young := ends(t)
	given := usual.giving(old, Parcel{State: []byte("all"), Files: files}, func() {})
	var seen []string
	var got []int
	see := func(p Parcel) error {
		seen, got = append(seen, string(p.State)), append(got, p.Files...)
		return nil
	}
	err := Take(young, see, see, see)
	if err := errors.Join(err, <-given); err != nil {
		t.Fatal(err)
	}
	if want := []string{"trial", "early", "all"}; !slices.Equal(seen, want) {
		t.Errorf("checked were %q", seen)
	}
	if got, want := cookies(t, got), cookies(t, files); !slices.Equal(got, want) {
		t.Error("other files have arrived")
	}
	closeAll(got)
	young.Close()
	if after := len(openFiles()); after != before+len(files) {
		t.Errorf("%d files are open, before %d", after-len(files), before)
	}
}

// Whatever one of them says is wrong, the other one is told, nothing is taken, and no file stays
// open.
func TestTakeOverThatIsRefused(t *testing.T) {
	wrong := errors.New("the balancer \x1b[31m\"magic\" is not known")
	for _, c := range []struct {
		name  string
		at    string // the state in which the new one finds something wrong
		rest  error  // what is wrong with the old one
		given string
		taken string
	}{
		{"trial", "trial", nil, `has not proved itself: the balancer ?[31m"magic" is not known`, "magic"},
		{"early", "early", nil, `has not done so: the balancer ?[31m"magic" is not known`, "magic"},
		{"parcel", "all", nil, `has not done so: the balancer ?[31m"magic" is not known`, "magic"},
		{"rest", "", errors.New("3 connections have not come to rest"), "3 connections", "3 connections have not come to rest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := sockets(t, 300)
			before := len(openFiles())
			old, young := ends(t)
			given := make(chan error, 1)
			go func() {
				err := Give(old, Parcel{State: []byte("trial")}, func(early, carry func(Parcel) error) error {
					if err := early(Parcel{State: []byte("early"), Files: files[:100]}); err != nil {
						return err
					}
					if c.rest != nil {
						return c.rest
					}
					return carry(Parcel{State: []byte("all"), Files: files[100:]})
				})
				old.Close()
				given <- err
			}()
			check := func(p Parcel) error {
				defer closeAll(p.Files)
				if string(p.State) == c.at {
					return wrong
				}
				return nil
			}
			err := Take(young, check, check, check)
			young.Close()
			wantError(t, err, c.taken)
			wantError(t, <-given, c.given)
			if after := len(openFiles()); after != before {
				t.Errorf("%d files are open, before %d", after, before)
			}
		})
	}
}

// One that dies, or hangs up, at any of its words has not taken anything; one that gives no
// answer neither, and it learns of that.
func TestTakeOverByOneThatStops(t *testing.T) {
	short := patience{prove: 200 * time.Millisecond, carry: 200 * time.Millisecond}
	steps := []func(*net.UnixConn) error{
		func(c *net.UnixConn) error { return speak(c, ready) },
		func(c *net.UnixConn) error { return await(c, parcel) },
		func(c *net.UnixConn) error { return received(c) },
		func(c *net.UnixConn) error { return speak(c, ready) },
		func(c *net.UnixConn) error { return await(c, parcel) },
		func(c *net.UnixConn) error { return received(c) },
		func(c *net.UnixConn) error { return speak(c, ready) },
		func(c *net.UnixConn) error { return await(c, parcel) },
		func(c *net.UnixConn) error { return received(c) },
	}
	for n := range len(steps) + 1 {
		for _, dies := range []bool{true, false} {
			old, young := ends(t)
			given := short.giving(old, Parcel{State: []byte("all"), Files: sockets(t, 600)}, func() {
				if n == len(steps) && speak(young, mine) == nil { // which it does not say before
					t.Errorf("after %d steps it has taken what the other one goes on with", n)
				}
			})
			for _, step := range steps[:n] {
				if err := step(young); err != nil {
					t.Fatal(err)
				}
			}
			want := "gives no answer"
			if dies {
				want = "" // as the kernel puts it
				young.Close()
			}
			wantError(t, <-given, want)
		}
	}
}

func received(c *net.UnixConn) error {
	p, err := Receive(c)
	if err == nil {
		closeAll(p.Files)
	}
	return err
}

// However close the last word comes to the end of the other's patience, both agree on who has
// everything.
func TestBothAgreeOnWhoHasIt(t *testing.T) {
	wait := patience{prove: 5 * time.Second, carry: 3 * time.Millisecond}
	var taken, kept int
	for range 400 {
		old, young := ends(t)
		given := wait.giving(old, Parcel{State: []byte("all")}, func() { time.Sleep(time.Millisecond) })
		good := func(Parcel) error { return nil }
		err := Take(young, good, good, func(Parcel) error {
			for until := time.Now().Add(wait.carry - time.Millisecond + rand.N(2*time.Millisecond)); time.Now().Before(until); {
			}
			return nil
		})
		lost := <-given
		if (err == nil) != (lost == nil) {
			t.Fatalf("one says %v, the other %v", err, lost)
		}
		if err == nil {
			taken++
		} else {
			kept++
		}
		young.Close()
	}
	t.Logf("taken %d times, kept %d times", taken, kept)
}
