package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
)

// settings are the flags of usher run, and where their values come from: the
// command line, else the configuration file, else usher itself.
type settings struct {
	groups []flagGroup
	flags  *pflag.FlagSet   // those of all groups
	places map[string]place // by flag, for values from the configuration file

	overruled map[string]place  // by flag, for values of the file that the command line has others for
	implied   map[string]string // by flag, for values that follow from another setting: which
	faults    []error           // in the values of the file

	// What the log is told once there is one.
	remarks []remark
	// without are settings of kube-proxy that have no meaning here.
	without []withoutMeaning
}

type remark struct {
	level logrus.Level
	what  error // a fileError, if it is about a place in the file
}

type withoutMeaning struct {
	name  string
	place place // in the file; zero on the command line
}

// setting is one value from a configuration file.
type setting struct {
	flag   string // its name, or another name of it
	values []string
	list   bool // values is a list; otherwise it has one element
	place  place
}

// spoken is the flag on the command line that sets the one of this name: it, or
// another name of it; nil if there is none.
func (s *settings) spoken(name string) (found *pflag.Flag) {
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed && canonical(f) == name {
			found = f
		}
	})
	return found
}

// given says whether anybody set the flag.
func (s *settings) given(name string) bool { return s.spoken(name) != nil || s.inFile(name) }

// inFile says whether the flag has its value from the file.
func (s *settings) inFile(name string) bool { return s.places[name].file != "" }

// label is how whoever set the flag calls it.
func (s *settings) label(name string) string {
	if f := s.spoken(name); f != nil {
		return "--" + f.Name
	}
	if s.inFile(name) {
		return s.places[name].String()
	}
	return "--" + name
}

// about is an error about a flag, which it calls as its user did.
func (s *settings) about(name, format string, args ...any) error {
	if s.spoken(name) == nil && s.inFile(name) {
		return s.places[name].wrong(format, args...)
	}
	return errors.New(s.label(name) + fmt.Sprintf(format, args...))
}

// fault is an error about the value of a flag.
func (s *settings) fault(name, value, format string, args ...any) error {
	return s.about(name, "=%s: %v", value, fmt.Errorf(format, args...))
}

// remark keeps something for the log.
func (s *settings) remark(level logrus.Level, format string, args ...any) {
	s.remarks = append(s.remarks, remark{level, fmt.Errorf(format, args...)})
}

// notUsed keeps for the log that a setting has no effect.
func (s *settings) notUsed(name, format string, args ...any) {
	s.remarks = append(s.remarks, remark{logrus.InfoLevel, s.about(name, " is not used: %s", fmt.Sprintf(format, args...))})
}

// tell writes to the log what there is to say about the settings.
func (s *settings) tell(log logrus.FieldLogger) {
	entry := log.WithFields(nil)
	if len(s.without) > 0 {
		var names []string
		for _, w := range s.without {
			names = append(names, w.name)
		}
		entry.Infof("these settings of kube-proxy have no meaning here: %s", strings.Join(names, ", "))
	}
	for _, r := range s.remarks {
		entry.Log(r.level, r.what)
	}
}

// checkNames refuses two names of one flag.
func (s *settings) checkNames() (err error) {
	s.flags.VisitAll(func(f *pflag.Flag) {
		if other := s.spoken(canonical(f)); f.Changed && other != f {
			err = errors.Join(err, fmt.Errorf("--%s and --%s are the same: give one of them", f.Name, other.Name))
		}
	})
	return err
}

// rivals take each other's place: of two from command line and file, the
// command line's counts.
var rivals = map[string][]string{
	"manifests":  {"kubeconfig", "master"},
	"kubeconfig": {"manifests"},
	"master":     {"manifests"},
}

// apply takes values from a configuration file, except where the command line
// has said otherwise.
func (s *settings) apply(all []setting) error {
	var errs []error
	for _, x := range all {
		flag := s.flags.Lookup(x.flag)
		name := canonical(flag)
		spoken := func(name string) bool { return s.spoken(name) != nil }
		if spoken(name) || slices.ContainsFunc(rivals[name], spoken) {
			s.overruled[name] = x.place
			continue
		}
		if err := x.set(flag.Value); err != nil {
			errs = append(errs, x.place.wrong("=%v", err))
			continue
		}
		s.places[name] = x.place
	}
	return errors.Join(errs...)
}

func (x setting) set(value pflag.Value) error {
	if list, ok := value.(pflag.SliceValue); ok && x.list {
		return list.Replace(x.values)
	}
	if x.list {
		return fmt.Errorf("[%s]: want one value, not a list", strings.Join(x.values, ", "))
	}
	before := value.String()
	if err := value.Set(x.values[0]); err != nil {
		_ = value.Set(before) // some set a value that is none, too; other errors are not to be about that
		if want := wanted[value.Type()]; want != "" {
			err = errors.New("want " + want)
		}
		return fmt.Errorf("%s: %w", x.values[0], err)
	}
	return nil
}

// wanted says what the values of a flag look like, by its type.
var wanted = map[string]string{
	"bool":     "true or false",
	"int":      "a whole number",
	"float32":  "a number",
	"duration": "a duration, as in 30s",
}
