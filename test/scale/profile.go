package scale

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// profileTime is how much of a start a CPU profile covers.
const profileTime = 12 * time.Second

// profileStart writes a CPU profile of a start that is not measured.
func (s *site) profileStart() {
	s.t.Helper()
	p := s.startUsher(s.usher, "")
	defer p.stop()
	s.must(s.profile(p, "start", fmt.Sprintf("profile?seconds=%.0f", profileTime.Seconds())))
}

// profile writes what usher tells below /debug/pprof to a file of the folder that the
// environment names.
func (s *site) profile(p *proxy, name, what string) error {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: p.node.DialContext}}
	var resp *http.Response
	netns.Eventually(s.t, "usher serves profiles", func() (err error) {
		resp, err = client.Get("http://" + usherMetrics.String() + "/debug/pprof/" + what)
		return err
	})
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read the profile %s of usher: %w", name, err)
	}
	return os.WriteFile(filepath.Join(os.Getenv(profileEnv), fmt.Sprintf("%s-%d.pprof", name, s.services)), content, 0o644)
}
