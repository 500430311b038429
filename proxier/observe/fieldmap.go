package observe

import (
	"net/netip"
	"time"
)

// fieldMap is the teller that keeps what it is told as ordinary values.
type fieldMap map[string]any

func (m fieldMap) text(key, value string)                   { m[key] = value }
func (m fieldMap) word(key, value string)                   { m[key] = value }
func (m fieldMap) number(key string, n int64)               { m[key] = n }
func (m fieldMap) milliseconds(key string, d time.Duration) { m[key] = inMilliseconds(d) }
func (m fieldMap) yes(key string, is bool)                  { m[key] = is }
func (m fieldMap) time(key string, t time.Time)             { m[key] = t.Format(time.RFC3339Nano) }
func (m fieldMap) ip(key string, a netip.Addr)              { m[key] = string(appendIP(nil, a)) }
func (m fieldMap) addrPort(key string, a netip.AddrPort)    { m[key] = string(appendAddrPort(nil, a)) }
func (m fieldMap) id(key string, r *Record)                 { m[key] = r.ID() }
func (m fieldMap) sentence(key string, r *Record)           { m[key] = r.Sentence() }
func (m fieldMap) attempts(key string, list attempts)       { m[key] = list }
func (m fieldMap) tcpInfo(key string, i *TCPInfo)           { m[key] = i }
