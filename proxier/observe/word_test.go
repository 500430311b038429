package observe

import (
	"fmt"
	"sync"
	"testing"
)

// Whoever learns a word first, all have the same number for it; and there is an end.
func TestWordsAreNumberedOnce(t *testing.T) {
	v := newVocabulary()
	const many = 300
	var got [8][many]Word
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			for n := range many {
				s := fmt.Sprint("word ", n)
				got[i][n] = v.number(s)
				if text := v.text(got[i][n]); text != s && text != tooMany {
					t.Errorf("%s became %s", s, text)
				}
			}
		})
	}
	all.Wait()
	told := 0
	for n := range many {
		for i := range got {
			if got[i][n] != got[0][n] {
				t.Fatalf("word %d is %d and %d", n, got[i][n], got[0][n])
			}
		}
		if v.text(got[0][n]) == fmt.Sprint("word ", n) {
			told++
		}
	}
	if told != 254 { // and the empty one, and that for too many
		t.Errorf("%d words are known", told)
	}
}

func TestWordsAreWhatTheyWere(t *testing.T) {
	var none Word
	if none.String() != "" || WordOf("") != none {
		t.Errorf("no word is %q, number %d", none, WordOf(""))
	}
	if a, b := words.learn("cluster"), words.learn("cluster"); a != b {
		t.Errorf("of two who learn a word, one has %d, the other one %d", a, b)
	}
	type kind string
	if a, b := WordOf(kind("cluster")), WordOf("cluster"); a != b || a.String() != "cluster" || a == WordOf("local") {
		t.Errorf("cluster is %d and %d, %q", a, b, a)
	}
	if w := Word(255); w.String() != tooMany {
		t.Errorf("an unknown word is %q", w)
	}
	if c := Close(255); c.String() != tooMany {
		t.Errorf("an unknown close is %q", c)
	}
}
