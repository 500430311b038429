package admin

// Setting is what usher was told to do in one respect, by whom, and where: /v1/config. No
// setting is a secret.
type Setting struct {
	Key   string `json:"key"`   // in a UsherConfiguration, as in nodeName
	Flag  string `json:"flag"`  // of usher run, as in node-name
	Value any    `json:"value"` // text, number, bool or list of texts
	// Origin is who set it: one of the constants below.
	Origin string `json:"origin"`
	// As is what it is called there: --hostname-override, a key of the file, or the other
	// setting that it follows from. Empty for a default.
	As   string `json:"as,omitempty"`
	File string `json:"file,omitempty"` // of origin file, as --config names it
	Line int    `json:"line,omitempty"` // in that file, from 1
	// Overrules is FILE:LINE: KEY of the file's own value, which the command line wins over.
	Overrules string `json:"overrules,omitempty"`
}

// The origins of settings, the weakest first.
const (
	OriginDefault     = "default"
	OriginImplied     = "implied" // by another setting
	OriginFile        = "file"
	OriginCommandLine = "command-line"
)
