package load

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/usher-proxy/usher/test/dns"
	"github.com/usher-proxy/usher/test/netns"
)

var withDNSPerf = flag.Bool("dnsperf", false, "have dnsperf ask name servers meanwhile, if it is installed")

// dnsperf is Debian's, which asks through usher until it is ended.
type dnsperf struct {
	*netns.Cmd
	load *Load
	said bytes.Buffer
}

// startDNSPerf has it ask 1,000 times a second, by 20 sockets. It returns nil without -dnsperf,
// or where the program is missing.
func (l *Load) startDNSPerf() *dnsperf {
	s := l.site
	s.t.Helper()
	if !*withDNSPerf {
		return nil
	}
	if _, err := exec.LookPath("dnsperf"); err != nil {
		s.t.Logf("without dnsperf: %v", err)
		return nil
	}
	names := &Service{Name: "dns", N: 9, Protocol: "UDP", Port: 7009, Only4: true, Pods: s.Pods}
	for _, pod := range names.Pods {
		dns.Serve(s.t, pod.NS, pod.Name, pod.AddrPort4(names.Port))
	}
	s.Write("dns.yaml", names)
	at := names.Addr(false)
	netns.Eventually(s.t, "name servers are served", func() error {
		_, err := dns.Client{NS: s.Client}.Whoami(at)
		return err
	})
	queries := filepath.Join(s.t.TempDir(), "queries") // which it reads again and again
	if err := os.WriteFile(queries, []byte("whoami.test TXT\n"), 0o644); err != nil {
		s.t.Fatal(err)
	}
	d := &dnsperf{load: l}
	d.Cmd = s.Client.Command(context.Background(), "dnsperf", "-s", at.Addr().String(), "-p", strconv.Itoa(int(at.Port())),
		"-d", queries, "-c", "20", "-Q", "1000", "-l", strconv.Itoa(int(lifetime.Seconds())))
	d.Stdout, d.Stderr = &d.said, &d.said
	if err := d.Start(); err != nil {
		s.t.Fatal(err)
	}
	return d
}

var dnsperfCounts = regexp.MustCompile(`Queries (sent|lost): +([0-9]+)`)

// end returns the numbers of queries and of those that were lost, which fail the test.
func (d *dnsperf) end() string {
	if d == nil {
		return ""
	}
	t := d.load.site.t
	t.Helper()
	d.Process.Signal(os.Interrupt)
	d.Wait()
	counts := map[string]int{}
	for _, found := range dnsperfCounts.FindAllStringSubmatch(d.said.String(), -1) {
		counts[found[1]], _ = strconv.Atoi(found[2])
	}
	if counts["sent"] == 0 || counts["lost"] > 0 {
		t.Errorf("dnsperf: %d queries, %d lost:\n%s", counts["sent"], counts["lost"], d.said.String())
	}
	return fmt.Sprintf("%d/%d", counts["lost"], counts["sent"])
}
