package systemd

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// What Notify can say. All of it is explained in sd_notify(3).
const (
	// Ready is that the service serves, or has finished to reload.
	Ready = daemon.SdNotifyReady
	// Stopping is that it has begun to end by itself or as it was asked to. The watchdog is
	// off from then on.
	Stopping = daemon.SdNotifyStopping
	// Alive feeds the watchdog.
	Alive = daemon.SdNotifyWatchdog
)

// maxStatus is how long a status may be: systemd drops messages of more than 4096 bytes.
const maxStatus = 1000

// Status is one line for people, which systemctl status shows.
func Status(text string) string {
	line := strings.Map(func(r rune) rune {
		if r < ' ' { // a line break would begin another assignment
			return ' '
		}
		return r
	}, text)
	if len(line) > maxStatus {
		line = strings.ToValidUTF8(line[:maxStatus], "") + "..."
	}
	return "STATUS=" + line
}

// Reloading is that the service reads its configuration anew, until it is Ready. The time is
// what Type=notify-reload asks for.
func Reloading() string {
	return daemon.SdNotifyReloading + "\n" + strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n")
}

// MainPID is that another process is the service's main one from now on.
func MainPID(pid int) string { return fmt.Sprintf("MAINPID=%d", pid) }

// ExtendTimeout is that the start or the end, whichever it is, may take so long from now on,
// also if the unit has a shorter timeout.
func ExtendTimeout(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}

// Notify tells the service manager all of states at once.
func Notify(states ...string) error {
	if err := send(strings.Join(states, "\n"), nil); err != nil {
		return fmt.Errorf("tell systemd %s: %w", strings.Join(states, " "), err)
	}
	return nil
}

// Watchdog is the time after which a service that has not been Alive is killed; 0: never.
func Watchdog() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) }
