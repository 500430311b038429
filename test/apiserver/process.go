package apiserver

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

// logTail is how much of the end of a log a failed test shows, in bytes.
const logTail = 32 << 10

// A process is one program of the control plane. It writes a log.
type process struct {
	name string
	cmd  *netns.Cmd
	done chan struct{} // closed when it has ended
}

// start starts one of the control plane's programs inside the namespace.
func (cp *ControlPlane) start(name string, args []string) *process {
	cp.t.Helper()
	dir, err := Binaries(name)
	if err != nil {
		cp.t.Fatal(err)
	}
	log, err := os.OpenFile(cp.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		cp.t.Fatal(err)
	}
	cp.t.Cleanup(func() {
		if cp.t.Failed() {
			cp.t.Logf("end of the log of %s:\n%s", name, tail(log))
		}
		log.Close()
	})

	p := &process{name: name, done: make(chan struct{})}
	p.cmd = cp.ns.Command(context.Background(), filepath.Join(dir, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		cp.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// mustRun fails the test if the program has ended by itself.
func (p *process) mustRun(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%s ended: %v", p.name, p.cmd.Wait())
	default:
	}
}

// kill ends the program and waits until it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// tail returns the end of a file.
func tail(f *os.File) []byte {
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, size-logTail), io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	return text
}
