package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// painter writes with colours, or without.
type painter bool

// The colours (ECMA-48, Select Graphic Rendition).
const (
	red     = "31"
	green   = "32"
	magenta = "35"
	cyan    = "36"
	bold    = "1"
	dim     = "2"
	reverse = "7"
)

// in is a text, of which everything is printable, in a colour.
func (p painter) in(color, text string) string {
	text = observe.Printable(text)
	if !p || color == "" || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// color is that of how a flow ended.
func color(f *admin.Flow) string {
	switch {
	case !f.Trouble():
		return green
	case f.Side == string(observe.SideProxy):
		return magenta
	}
	return red
}

const flowTime = "Jan _2 15:04:05.000"

// compact is a line for people: when, who to whom, how much, and why it ended.
func (p painter) compact(w io.Writer, f *admin.Flow, _ []byte) error {
	_, err := io.WriteString(w, p.line(f)+"\n")
	return err
}

func (p painter) line(f *admin.Flow) string {
	parts := []string{
		p.in(dim, f.End().Local().Format(flowTime)),
		p.in("", addressOf(f.ClientIP, f.ClientPort)),
		"->", p.in(cyan, serviceOf(f.Namespace, f.Service, f.PortName)),
	}
	if f.BackendIP != "" {
		parts = append(parts, "->", p.in("", cmp.Or(f.BackendPod, addressOf(f.BackendIP, f.BackendPort))))
	}
	parts = append(parts, p.in("", f.Protocol), p.in(color(f), f.Reason), milliseconds(f.DurationMs), byteCount(f.BytesIn)+"/"+byteCount(f.BytesOut))
	if f.Protocol == "udp" {
		parts = append(parts, fmt.Sprintf("%d/%d datagrams", f.DatagramsIn, f.DatagramsOut))
	}
	if n := failures(f); n != "" {
		parts = append(parts, p.in(magenta, n))
	}
	if f.Trouble() {
		parts = append(parts, p.in("", "("+join(f.Code, f.Errno)+": "+reasonText(f)+")"))
	}
	return strings.Join(parts, " ")
}

func reasonText(f *admin.Flow) string { return cmp.Or(observe.Reason(f.Reason).Text(), f.Message) }

// failures tells the attempts that did not succeed, as they are why it took longer.
func failures(f *admin.Flow) string {
	var list []string
	for _, a := range f.Attempts {
		switch observe.Reason(a.Result) {
		case observe.OK, observe.Superseded, observe.Abandoned:
			continue
		}
		list = append(list, cmp.Or(a.Pod, a.Backend)+"="+cmp.Or(a.Errno, a.Result))
	}
	if len(list) == 0 {
		return ""
	}
	return "failed: " + strings.Join(list, ",")
}

// wide is compact, with what leads to logs and packets elsewhere.
func (p painter) wide(w io.Writer, f *admin.Flow, _ []byte) error {
	var more []string
	for _, pair := range [][2]string{
		{"id", f.ID}, {"vip", addressOf(f.VIP, f.VIPPort)}, {"endpoint", addressOf(f.BackendIP, f.BackendPort)}, {"node", f.BackendNode},
		{"zone", f.BackendZone}, {"set", f.Set}, {"balancer", f.Balancer}, {"affinity", f.Affinity}, {"source", f.Source},
	} {
		if pair[1] != "" {
			more = append(more, pair[0]+"="+pair[1])
		}
	}
	if f.LocalPort > 0 {
		more = append(more, fmt.Sprintf("local_port=%d", f.LocalPort))
	}
	if f.Protocol != "udp" {
		more = append(more, "connect="+milliseconds(f.ConnectMs), fmt.Sprintf("client=%s endpoint=%s", orNone(f.ClientClose), orNone(f.BackendClose)))
	}
	_, err := io.WriteString(w, p.line(f)+" "+p.in(dim, strings.Join(more, " "))+"\n")
	return err
}

// dict has a line for each thing that is known, as hubble observe -o dict.
func (p painter) dict(w io.Writer, f *admin.Flow, _ []byte) error {
	rows := [][2]string{
		{"TIMESTAMP", f.End().Local().Format(flowTime)},
		{"ID", f.ID},
		{"CLIENT", join(addressOf(f.ClientIP, f.ClientPort), f.ClientKind)},
		{"DIALLED", join(addressOf(f.VIP, f.VIPPort), f.VIPKind)},
		{"SERVICE", serviceOf(f.Namespace, f.Service, f.PortName)},
		{"ENDPOINT", join(addressOf(f.BackendIP, f.BackendPort), f.BackendPod, f.BackendNode, f.BackendZone)},
		{"PROTOCOL", f.Protocol},
		{"REASON", join(f.Reason, f.Code, "side: "+f.Side, f.Errno)},
		{"FAILURES", strings.TrimPrefix(failures(f), "failed: ")},
		{"DURATION", milliseconds(f.DurationMs)},
		{"BYTES", byteCount(f.BytesIn) + " in, " + byteCount(f.BytesOut) + " out"},
		{"SUMMARY", f.Message},
	}
	var b strings.Builder
	for _, row := range rows {
		if row[1] != "" {
			c := ""
			if row[0] == "REASON" {
				c = color(f)
			}
			fmt.Fprintf(&b, "%10s: %s\n", row[0], p.in(c, row[1]))
		}
	}
	_, err := io.WriteString(w, b.String()+"------------\n")
	return err
}
