package iptables

// Witness tells whether somebody else has changed rules than some Tables, without
// reading them. It belongs to one goroutine, and none of the Tables may be written
// while it is asked.
type Witness struct {
	tables []*Table
	seen   []sighting // of each Table, as of the last time
}

// sighting is a generation, and how many commits a Table had made by then.
type sighting struct {
	generation Generation
	commits    uint64
}

// NewWitness has seen nothing yet: what it is asked first is answered with a change.
func NewWitness(tables ...*Table) *Witness { return &Witness{tables: tables} }

// Changed tells whether somebody else has changed rules since the last call. With
// certain, "no" is sure, as each change counts (nf_tables); else a change that leaves as many
// rules as there were is not seen (legacy).
func (w *Witness) Changed() (changed, certain bool, err error) {
	certain = true
	now := make([]sighting, len(w.tables))
	for i, t := range w.tables {
		now[i].commits = t.commits.Load()
		if now[i].generation, err = t.Generation(); err != nil {
			return false, false, err
		}
		certain = certain && t.programs.backend == backendNFT
	}
	changed = len(w.seen) != len(now)
	for i := range w.seen {
		changed = changed || w.foreign(i, now)
	}
	w.seen = now
	return changed, certain, nil
}

// foreign says whether more has happened to a Table than it has done itself. Those of
// nf_tables have one generation together, and each COMMIT makes another one.
func (w *Witness) foreign(i int, now []sighting) bool {
	was, is := w.seen[i], now[i]
	if w.tables[i].programs.backend != backendNFT {
		return was.generation != is.generation && was.commits == is.commits
	}
	var own uint32
	for j, t := range w.tables {
		if t.programs.backend == backendNFT {
			own += uint32(now[j].commits - w.seen[j].commits)
		}
	}
	return uint32(is.generation[0]-was.generation[0]) != own
}
