package relay

// urgent is called when a side has sent urgent data (tcp(7)). The byte is passed on in its
// place, as an ordinary one. A read ends at the mark, although there may be more behind it:
// of that nobody tells again, so from now on only tcp.ErrWait means that there is no more.
// splice(2) does not get past the mark: there it seems that nothing has come, and after a
// FIN that nothing will, also to a flow that splices while the poller is about to tell.
func (r *Relay) urgent(s *side) {
	if s.urgent.Load() {
		return
	}
	r.mu.Lock()
	if r.open > 0 { // else the connection may be closed
		s.conn.KeepUrgent()
	}
	r.mu.Unlock()
	s.urgent.Store(true)
}

// isDrained says whether a read has said tcp.ErrWait because there is nothing to read.
func (s *side) isDrained() bool { return !s.urgent.Load() || s.conn.Unread() == 0 }
