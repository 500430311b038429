package source

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// maxRereads bounds how often a load waits for a file that is being written.
const maxRereads = int(settleMost / settleQuiet)

// loader turns paths into objects. Every load reads all files and decides
// everything anew; only unchanged bytes are not decoded again. It is used by
// one goroutine.
type loader struct {
	paths    []string
	nodeName string
	ours     filter
	problems problemLog

	listed  map[string][]string // by path: the files when it was last there
	decoded map[string]decodedFile
	served  map[string][]object // by file
	written time.Time           // when the newest of the files was
}

type decodedFile struct {
	sum [sha256.Size]byte
	contents
}

func newLoader(paths []string, nodeName string, ours filter, problems problemLog) *loader {
	return &loader{
		paths: paths, nodeName: nodeName, ours: ours, problems: problems,
		listed: make(map[string][]string), decoded: make(map[string]decodedFile), served: make(map[string][]object),
	}
}

// load returns the present state. What is wrong is in the log.
//
// Half a file looks like a mistake. When a file was written only just now, load
// calls pause and reads once more; pause returns false if that is not wanted.
func (l *loader) load(pause func(time.Duration) bool) Objects {
	files, problems := l.read()
	for range maxRereads {
		age := time.Since(l.written)
		if age < 0 || age >= settleQuiet || !pause(settleQuiet-age) {
			break
		}
		files, problems = l.read()
	}
	result := merge(files, l.served)
	for _, f := range files {
		problems = append(problems, f.problems...)
	}
	l.problems.tell(append(problems, result.problems...))
	l.served = result.served

	var objects []object
	for _, f := range files {
		objects = append(objects, l.served[f.file]...)
	}
	return l.assemble(objects)
}

// read returns the contents of all files, in the order of the paths.
func (l *loader) read() (all []contents, problems []problem) {
	l.written = time.Time{}
	decoded, seen := make(map[string]decodedFile), make(map[string]bool)
	for _, path := range l.paths {
		files, err := manifestFiles(path)
		if err != nil {
			problems = append(problems, problem{position: position{file: path}, message: pathError(err)})
		}
		gone := err != nil && len(files) == 0
		if gone {
			files = l.listed[path] // what they had is kept
		}
		l.listed[path] = files
		for _, file := range files {
			switch {
			case seen[file]: // in two of the paths
			case gone:
				all = append(all, contents{file: file, gone: true})
			default:
				decoded[file] = l.readOne(file)
				all = append(all, decoded[file].contents)
			}
			seen[file] = true
		}
	}
	l.decoded = decoded
	return all, problems
}

func pathError(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "is gone; what was read from it stays until it is back"
	}
	return withoutPath(err).Error()
}

func (l *loader) readOne(file string) decodedFile {
	content, written, err := readFile(file)
	if written.After(l.written) {
		l.written = written
	}
	if err == nil && len(content) == 0 && len(l.served[file]) > 0 {
		// An editor that is about to write, more likely than a wish.
		err = errors.New("is empty: remove the file, or leave a comment in it, to remove its objects")
	}
	if err != nil {
		return decodedFile{contents: unreadable(file, err)}
	}
	sum := sha256.Sum256(content)
	if known, found := l.decoded[file]; found && known.sum == sum {
		return known
	}
	objects, problems := decode(file, content, l.ours)
	return decodedFile{sum, contents{file: file, objects: objects, problems: problems}}
}

func unreadable(file string, err error) contents {
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("is a symlink to a file that does not exist")
	}
	return contents{file: file, problems: []problem{{position: position{file: file}, message: err.Error()}}}
}

// assemble sorts objects by kind.
func (l *loader) assemble(objects []object) Objects {
	var all Objects
	managed := managedServices(objects)
	for _, o := range objects {
		switch {
		case o.service != nil:
			all.Services = append(all.Services, o.service)
		case o.slice != nil:
			all.Slices = append(all.Slices, o.slice)
		case o.legacy != nil && !managed[[2]string{o.id.namespace, o.id.name}]:
			all.Slices = append(all.Slices, o.legacy...)
		case o.node != nil && o.node.Name == l.nodeName:
			all.Node = o.node
		}
	}
	return all
}

// managedServices returns the Services, as namespace and name, whose Endpoints
// are not used, as in a cluster: a selector says that a controller writes their
// EndpointSlices, and these are there.
func managedServices(objects []object) map[[2]string]bool {
	withSlices := make(map[[2]string]bool)
	for _, o := range objects {
		if o.slice != nil {
			withSlices[[2]string{o.id.namespace, o.slice.Labels[discoveryv1.LabelServiceName]}] = true
		}
	}
	managed := make(map[[2]string]bool)
	for _, o := range objects {
		if o.service != nil && len(o.service.Spec.Selector) > 0 {
			name := [2]string{o.id.namespace, o.id.name}
			managed[name] = withSlices[name]
		}
	}
	return managed
}

// same reports whether two states have the same objects with the same content.
func (o Objects) same(other Objects) bool {
	sameService := func(a, b *corev1.Service) bool { return a.UID == b.UID && a.ResourceVersion == b.ResourceVersion }
	sameSlice := func(a, b *discoveryv1.EndpointSlice) bool {
		return a.UID == b.UID && a.ResourceVersion == b.ResourceVersion
	}
	if (o.Node == nil) != (other.Node == nil) || o.Node != nil && o.Node.ResourceVersion != other.Node.ResourceVersion {
		return false
	}
	return slices.EqualFunc(o.Services, other.Services, sameService) && slices.EqualFunc(o.Slices, other.Slices, sameSlice)
}
