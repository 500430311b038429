package systemd

import (
	"errors"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

// What was stored comes back after a restart and after a crash, all of it, and is gone once
// it was removed or the unit has stopped.
func TestFileDescriptorStore(t *testing.T) {
	m := Boot(t)
	m.PushFile("/usr/bin/keeper", keeper(), 0o755)
	m.Push("/etc/systemd/system/keeper.service", `
[Service]
Type=notify
ExecStart=/usr/bin/keeper 600
FileDescriptorStoreMax=1000
LimitNOFILE=20000
Restart=always
RestartSec=100ms
`, 0o644)
	m.Systemctl("daemon-reload")
	m.Systemctl("start", "keeper")
	port := last(m.Property("keeper", "StatusText"))
	handed := func(want string) {
		t.Helper()
		netns.Eventually(t, "keeper says that it was handed "+want, func() error {
			all := m.Journal("keeper")
			if got := all[max(0, strings.LastIndex(all, "handed: ")):]; !strings.HasPrefix(got, "handed: "+want+"\n") {
				return errors.New(all)
			}
			return nil
		})
	}
	handed("map[] first port: none")
	if n := m.Property("keeper", "NFileDescriptorStore"); n != "600" {
		t.Errorf("systemd keeps %s", n)
	}
	m.Systemctl("restart", "keeper")
	handed("map[l:600] first port: " + port)
	m.Systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", "keeper")
	m.Await("keeper", "NRestarts", "1")
	m.Await("keeper", "ActiveState", "active")
	handed("map[l:600] first port: " + port)
	m.Systemctl("kill", "--kill-whom=main", "--signal=SIGHUP", "keeper") // it removes them and ends
	m.Await("keeper", "NRestarts", "2")
	m.Await("keeper", "ActiveState", "active")
	handed("map[] first port: none")
	m.Systemctl("stop", "keeper")
	m.Systemctl("start", "keeper")
	handed("map[] first port: none")
}

func last(text string) string {
	words := strings.Fields(text)
	return words[len(words)-1]
}
