package proxier

import (
	"fmt"

	"github.com/usher-proxy/usher/proxier/outlier"
)

// healthChanged tells that an endpoint of the listener went out or came back.
func (l *listener) healthChanged(c outlier.Change) {
	l.telling.Lock()
	defer l.telling.Unlock()
	if l.gone.Load() {
		return
	}
	service := serviceRef(l.key.Namespace, l.key.Name)
	log := l.log.WithField("about", service.String())
	l.countIll()
	if l.key.Protocol == udpProtocol {
		l.restless.Store(true) // its sessions move
		l.wake()
	}
	if !c.Out {
		l.shared.endpointsChanged() // nobody has waited for this one
		log.Infof("%s: endpoint %s is well again: %s", l.key, c.Endpoint, c.Why)
		return
	}
	l.shared.metrics.Ejected(string(c.Cause))
	message := fmt.Sprintf("%s: endpoint %s is ill: %s", l.key, c.Endpoint, c.Why)
	log.Warn(message)
	l.event(service, "EndpointEjected", message)
}

// measureIll measures how many endpoints are ill, though none of them has changed.
func (l *listener) measureIll() {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.countIll()
}

// countIll measures how many endpoints are ill. The caller holds telling: who counts
// last has to be the last to tell.
func (l *listener) countIll() {
	l.shared.metrics.Ill(l.key.Family.String(), l.health.Ill())
}
