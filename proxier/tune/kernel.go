package tune

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// kernel is where the kernel shows its values.
type kernel struct{ proc, sys string }

func realKernel() kernel { return kernel{proc: "/proc/sys", sys: "/sys"} }

// set writes a number unless it is there already.
func (k kernel) set(file string, value int) (changed bool, err error) {
	if k.get(file) == value {
		return false, nil
	}
	return true, write(file, value)
}

// get reads a number, -1 if there is none.
func (k kernel) get(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	value, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return value
}

// write never creates a file: a value that is not there cannot be set.
func write(file string, value int) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return withoutPath(err)
	}
	_, err = f.WriteString(strconv.Itoa(value))
	return withoutPath(errors.Join(err, f.Close()))
}

// withoutPath removes from an error the path, whose sysctl is named anyway.
func withoutPath(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// cpus counts the CPUs of the machine. runtime.NumCPU counts those that the
// process may use (kubernetes/kubernetes#99225).
func (k kernel) cpus() int {
	text, err := os.ReadFile(k.sys + "/devices/system/cpu/online")
	if n := countCPUs(strings.TrimSpace(string(text))); err == nil && n > 0 {
		return n
	}
	return runtime.NumCPU()
}

// countCPUs counts a list of ranges like "0-3,6"; 0 if it is none.
func countCPUs(list string) (n int) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA != nil || errB != nil || b < a {
			return 0
		}
		n += b - a + 1
	}
	return n
}
