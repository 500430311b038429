package dns

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/usher-proxy/usher/test/netns"
)

// A Client asks name servers, with dig.
type Client struct {
	*netns.NS

	// From is where its datagrams come from. Without an address it is the one of the route, and
	// without a port each datagram comes from another one.
	From netip.AddrPort
	// TCP asks by TCP and not by UDP.
	TCP bool
}

// Whoami asks the server at an address for its name, once and for one second at most. dig
// refuses an answer that comes from elsewhere.
func (c Client) Whoami(server netip.AddrPort) (string, error) {
	args := []string{
		"-r", // without what a file in the home folder says
		"@" + server.Addr().String(), "-p", strconv.Itoa(int(server.Port())),
		"+tries=1", "+time=1", "+norecurse", "+short",
	}
	if c.TCP {
		args = append(args, "+tcp")
	}
	if c.From.Addr().IsValid() {
		args = append(args, "-b", fmt.Sprintf("%s#%d", c.From.Addr(), c.From.Port()))
	}
	out, err := c.Command(context.Background(), "dig", append(args, name, "TXT")...).Output()
	if err != nil {
		// What went wrong with the answer is told on the standard output.
		return "", fmt.Errorf("%w%s", err, out)
	}
	answer, err := strconv.Unquote(strings.TrimSpace(string(out)))
	if err != nil {
		return "", fmt.Errorf("dig %s: %q is not one TXT record", server, out)
	}
	return answer, nil
}
