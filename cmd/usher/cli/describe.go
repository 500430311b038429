package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

func newDescribe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Tell all about a Service or a connection",
		Long:  `describe tells all that the usher on this node knows of one thing.`,
		Example: `  usher describe service shop/web
  usher describe connection 6921f0a1-4711`,
	}
	ofKinds(cmd)
	cmd.AddCommand(newDescribeService(), newDescribeConnection())
	return cmd
}

// page is a text of headed sections, in which everything is printable.
type page struct{ strings.Builder }

// section begins a part, and returns whether it has something to say.
func (p *page) section(title string) {
	if p.Len() > 0 {
		p.WriteByte('\n')
	}
	p.WriteString(title + ":\n")
}

func (p *page) line(format string, args ...any) {
	p.WriteString(observe.Printable(fmt.Sprintf(format, args...)) + "\n")
}

// rows are aligned, and indented below a section.
func (p *page) rows(rows [][]string) {
	for line := range strings.Lines(new(table).lines(rows)) {
		p.WriteString("  " + line)
	}
}

func (p *page) pairs(rows [][2]string) {
	for i := range rows {
		rows[i][0] += ":"
	}
	p.WriteString(listing(rows))
}

func (p *page) printTo(w io.Writer) error {
	_, err := io.WriteString(w, p.String())
	return err
}

// asker asks one usher for several things.
type asker struct {
	ctx    context.Context
	socket string
}

// get asks for something that an older usher may not tell: then there is nothing, and no
// error.
func (a asker) get(path string, query url.Values, answer any) (told bool, err error) {
	err = admin.Get(a.ctx, a.socket, path, query, answer)
	if notTold(err) {
		return false, nil
	}
	return err == nil, err
}

// notTold says whether that is the answer of a usher that knows nothing of the kind.
func notTold(err error) bool {
	var answer *admin.Error
	return errors.As(err, &answer) && answer.Status == http.StatusNotFound
}

// flows are the records that fit, oldest first. each says whether it has enough.
func (a asker) flows(query url.Values, each func(*admin.Flow) (enough bool)) error {
	err := admin.Stream(a.ctx, a.socket, http.MethodGet, "/v1/flows", query, func(line []byte) error {
		var f admin.Flow
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("a flow: %w", err)
		}
		if f.ID != "" && each(&f) {
			return errEnough
		}
		return nil
	}, nil)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends a stream of which somebody has seen what he looked for.
var errEnough = errors.New("enough")
