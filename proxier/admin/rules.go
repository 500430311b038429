package admin

// CapturedBy is what a capture wants to be in the kernel for one family: /v1/rules.
type CapturedBy struct {
	Family string `json:"family"`
	// Text is as the field's own programs print it: iptables-save, or ip rule and ip
	// route.
	Text string `json:"text"`
}

// RuleDifference is something in the kernel that is not as the capture wants it:
// /v1/rules/diff.
type RuleDifference struct {
	Family string `json:"family"`
	Text   string `json:"text"`
}

// Repair is what was repaired, and what could not be: POST /v1/rules/repair.
type Repair struct {
	Repaired []RuleDifference `json:"repaired"`
	Left     []RuleDifference `json:"left"`
}
