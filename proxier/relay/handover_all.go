package relay

import "github.com/usher-proxy/usher/proxier/tcp"

// Released is what Release returns.
type Released struct {
	Client, Backend *tcp.Conn
	State           State
	Err             error
}

// ReleaseAll is Release for many relays: all flows are told to stop before any is waited
// for, so that those which move bytes stop together and not one after the other. The result
// is in the order of the list.
func ReleaseAll(list []*Relay) []Released {
	all, parted := make([]Released, len(list)), make([]<-chan struct{}, len(list))
	for i, r := range list {
		parted[i], all[i].Err = r.part()
	}
	for i, r := range list {
		if all[i].Err == nil {
			r.wakeBoth()
		}
	}
	for i, r := range list {
		if one := &all[i]; one.Err == nil {
			one.Client, one.Backend, one.State, one.Err = r.collect(parted[i])
		}
	}
	return all
}
