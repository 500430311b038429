package cli

import (
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier/admin"
)

// origins are all settings with who set them, in the order of the help.
func (s *settings) origins() (all []admin.Setting) {
	for _, g := range s.groups {
		g.flags.VisitAll(func(f *pflag.Flag) {
			if isKey(f) {
				all = append(all, s.origin(f))
			}
		})
	}
	return all
}

func (s *settings) origin(f *pflag.Flag) admin.Setting {
	x := admin.Setting{Key: lowerCamelCase(f.Name), Flag: f.Name, Value: valueOf(f), Origin: admin.OriginDefault}
	at := s.places[f.Name]
	switch spoken, implied := s.spoken(f.Name), s.implied[f.Name]; {
	case spoken != nil:
		x.Origin, x.As = admin.OriginCommandLine, "--"+spoken.Name
	case at.file != "":
		x.Origin, x.As, x.File, x.Line = admin.OriginFile, at.key, at.file, at.line
	case implied != "":
		x.Origin, x.As = admin.OriginImplied, implied
	}
	if own, ok := s.overruled[f.Name]; ok {
		x.Overrules = own.String()
	}
	return x
}
