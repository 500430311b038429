package observe

import (
	"maps"
	"math"
	"sync"
	"sync/atomic"
)

// Word is one of the few words that a record may have somewhere, such as a kind. It is
// kept as a number, since a connection has its record for as long as it lives. Words
// compare with ==; the zero Word is the empty one.
type Word uint8

// WordOf returns the Word for s. It is meant for constants: of more than 255 words
// some become "?". It is safe for concurrent use.
func WordOf[S ~string](s S) Word { return words.number(string(s)) }

// String is what WordOf was given.
func (w Word) String() string { return words.text(w) }

// words are all that there are.
var words = newVocabulary()

// vocabulary numbers words in the order in which it learns them. Those who read do not
// wait for each other.
type vocabulary struct {
	known    atomic.Pointer[known]
	learning sync.Mutex
}

type known struct {
	numbers map[string]Word
	texts   []string
}

// tooMany stands for the words that there are no numbers for.
const tooMany = "?"

func newVocabulary() *vocabulary {
	v := &vocabulary{}
	v.known.Store(&known{map[string]Word{"": 0, tooMany: 1}, []string{"", tooMany}})
	return v
}

func (v *vocabulary) text(w Word) string {
	if texts := v.known.Load().texts; int(w) < len(texts) {
		return texts[w]
	}
	return tooMany
}

func (v *vocabulary) number(s string) Word {
	if w, ok := v.known.Load().numbers[s]; ok {
		return w
	}
	return v.learn(s)
}

func (v *vocabulary) learn(s string) Word {
	v.learning.Lock()
	defer v.learning.Unlock()
	now := v.known.Load()
	if w, ok := now.numbers[s]; ok {
		return w
	}
	if len(now.texts) > math.MaxUint8 {
		return now.numbers[tooMany]
	}
	next := &known{maps.Clone(now.numbers), append(now.texts, s)} // who reads now does not see beyond its end
	next.numbers[s] = Word(len(now.texts))
	v.known.Store(next)
	return next.numbers[s]
}
