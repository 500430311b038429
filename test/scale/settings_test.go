package scale

import "testing"

func TestServicesOfTheEnvironment(t *testing.T) {
	for text, want := range map[string]int{"": 10_000, "2000": 2000, "x": 0, "1": 0, "50001": 0} {
		t.Setenv(servicesEnv, text)
		p, err := fullPlan()
		if want > 0 && (err != nil || p.services != want) || want == 0 && err == nil {
			t.Errorf("%q: %d Services, %v", text, p.services, err)
		}
	}
}
