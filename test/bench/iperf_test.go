package bench

import "testing"

func TestParseBulkRun(t *testing.T) {
	const output = `{"start": {"connected": []}, "intervals": [{"sum": {"bytes": 1}}], "end": {
		"sum_sent": {"bytes": 2500000100, "bits_per_second": 10000000400, "retransmits": 7, "sender": true},
		"sum_received": {"bytes": 2500000000, "bits_per_second": 10000000000, "sender": true}}}`
	run, err := parseBulkRun([]byte(output))
	if want := (BulkRun{Bytes: 2500000000, Gbits: 10, Again: 7}); err != nil || run != want {
		t.Errorf("%+v, %v; want %+v", run, err, want)
	}
	for name, output := range map[string]string{
		"nothing":  "",
		"cut off":  output[:100],
		"no bytes": `{"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}`,
		"an error": `{"end": {"sum_received": {"bytes": 9, "bits_per_second": 9}}, "error": "unable to connect"}`,
	} {
		if run, err := parseBulkRun([]byte(output)); err == nil {
			t.Errorf("%s: %+v", name, run)
		}
	}
}
