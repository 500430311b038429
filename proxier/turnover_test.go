package proxier

import (
	"cmp"
	"slices"
	"testing"
)

func TestTurnover(t *testing.T) {
	a, b, c, d := new(int), new(int), new(int), new(int)
	var turnover turnover[*int]
	for _, step := range []struct {
		what            string
		now, came, went []*int
	}{
		{"nothing", nil, nil, nil},
		{"two come", []*int{a, b}, []*int{a, b}, nil},
		{"another order", []*int{b, a}, nil, nil},
		{"one goes", []*int{b}, nil, []*int{a}},
		{"one goes, two come", []*int{c, d}, []*int{c, d}, []*int{b}},
		{"one comes back", []*int{c, d, b}, []*int{b}, nil},
		{"one is there twice", []*int{c, c, d, b}, nil, nil},
		{"one goes beside one that is there twice", []*int{c, c, d}, nil, []*int{b}},
		{"all go", []*int{}, nil, []*int{c, d}},
	} {
		came, went := turnover.update(step.now)
		if !slices.Equal(came, step.came) || len(went) != len(step.went) {
			t.Errorf("%s: %d came and %d went", step.what, len(came), len(went))
		}
		for _, one := range step.went {
			if !slices.Contains(went, one) {
				t.Errorf("%s: the wrong one went", step.what)
			}
		}
		if came, went := turnover.update(step.now); len(came)+len(went) > 0 {
			t.Errorf("%s: the same list again: %d came and %d went", step.what, len(came), len(went))
		}
	}
}

func TestMerged(t *testing.T) {
	list := []int{1, 3, 5, 7}
	for _, c := range []struct{ gone, came, want []int }{
		{nil, nil, []int{1, 3, 5, 7}},
		{nil, []int{4}, []int{1, 3, 4, 5, 7}},
		{nil, []int{8, 0, 4, 2}, []int{0, 1, 2, 3, 4, 5, 7, 8}},
		{[]int{7, 1}, nil, []int{3, 5}},
		{[]int{5, 3}, []int{9, 4}, []int{1, 4, 7, 9}},
		{[]int{1, 3, 5, 7}, nil, nil},
	} {
		if got := merged(list, c.gone, c.came, cmp.Compare); !slices.Equal(got, c.want) {
			t.Errorf("without %v and with %v: %v, want %v", c.gone, c.came, got, c.want)
		}
	}
	if !slices.Equal(list, []int{1, 3, 5, 7}) {
		t.Errorf("the list itself is now %v", list)
	}
}
