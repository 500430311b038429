package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Unit is the service that this process belongs to, as the manager has it now.
type Unit struct {
	Name string
	// Job is what the manager is about to do with it, "" if nothing: start, stop, restart and
	// others (org.freedesktop.systemd1(5)). While a restart stops the service it is restart.
	Job string
	// StoreMax is how many files it may store, Stored how many it has.
	StoreMax, Stored uint32
	// Restart is that of the unit file, and NeverAfter are exit codes of
	// RestartPreventExitStatus=.
	Restart    string
	NeverAfter []int32
}

// Manager is a connection to systemd by D-Bus. Root asks it directly, so that no bus has to run.
type Manager struct{ conn *dbus.Conn }

// Connect connects to the manager of the system.
func Connect(ctx context.Context) (*Manager, error) {
	var conn *dbus.Conn
	err := errors.ErrUnsupported
	if os.Geteuid() == 0 {
		conn, err = dbus.NewSystemdConnectionContext(ctx)
	}
	if err != nil {
		conn, err = dbus.NewSystemConnectionContext(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to systemd by D-Bus: %w", err)
	}
	return &Manager{conn}, nil
}

// Close ends the connection.
func (m *Manager) Close() { m.conn.Close() }

// OwnUnit is the unit of this process.
func (m *Manager) OwnUnit(ctx context.Context) (Unit, error) {
	u, err := m.ask(ctx)
	if err != nil {
		return u, fmt.Errorf("ask systemd for the own unit: %w", err)
	}
	return u, nil
}

// Stored is how many files a unit has stored by now.
func (m *Manager) Stored(ctx context.Context, unit string) (uint32, error) {
	p, err := m.conn.GetServicePropertyContext(ctx, unit, "NFileDescriptorStore")
	if err != nil {
		return 0, fmt.Errorf("ask systemd what %s has stored: %w", unit, err)
	}
	n, _ := p.Value.Value().(uint32)
	return n, nil
}

// OwnUnit connects and asks.
func OwnUnit(ctx context.Context) (Unit, error) {
	m, err := Connect(ctx)
	if err != nil {
		return Unit{}, err
	}
	defer m.Close()
	return m.OwnUnit(ctx)
}

func (m *Manager) ask(ctx context.Context) (u Unit, err error) {
	if u.Name, err = m.conn.GetUnitNameByPID(ctx, uint32(os.Getpid())); err != nil {
		return u, err
	}
	properties, err := m.conn.GetUnitTypePropertiesContext(ctx, u.Name, "Service")
	if err != nil {
		return u, err
	}
	u.StoreMax, _ = properties["FileDescriptorStoreMax"].(uint32)
	u.Stored, _ = properties["NFileDescriptorStore"].(uint32)
	u.Restart, _ = properties["Restart"].(string)
	if never, ok := properties["RestartPreventExitStatus"].([]any); ok && len(never) > 0 {
		u.NeverAfter, _ = never[0].([]int32) // the second ones are signals
	}
	jobs, err := m.conn.ListJobsContext(ctx)
	if i := slices.IndexFunc(jobs, func(j dbus.JobStatus) bool { return j.Unit == u.Name }); i >= 0 {
		u.Job = jobs[i].JobType
	}
	return u, err
}

// Ended is how the service has ended, as programs of ExecStopPost= are told
// (systemd.exec(5): $SERVICE_RESULT and others).
type Ended struct {
	Result string // success, exit-code, signal, watchdog...
	Code   int32  // of an exit, else -1
}

// HasEnded is for a program of ExecStopPost=.
func HasEnded() (Ended, error) {
	e := Ended{Result: os.Getenv("SERVICE_RESULT"), Code: -1}
	if e.Result == "" {
		return e, errors.New("there is no $SERVICE_RESULT: this is for ExecStopPost= of a systemd unit")
	}
	if os.Getenv("EXIT_CODE") == "exited" {
		fmt.Sscan(os.Getenv("EXIT_STATUS"), &e.Code)
	}
	return e, nil
}

// Restarts says whether the service is started again after such an end: because that was
// asked for, or by itself (systemd.service(5): Restart=).
func (u Unit) Restarts(e Ended) bool {
	switch {
	case u.Job == "stop":
		return false
	case u.Job != "":
		return true
	case slices.Contains(u.NeverAfter, e.Code):
		return false
	}
	results := map[string][]string{
		"on-success":  {"success"},
		"on-abnormal": {"timeout", "signal", "core-dump", "watchdog"},
		"on-watchdog": {"watchdog"},
		"on-abort":    {"signal", "core-dump"},
	}
	switch u.Restart {
	case "always":
		return true
	case "on-failure":
		return e.Result != "success"
	}
	return slices.Contains(results[u.Restart], e.Result)
}
