package laststate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var me = Owner{Cluster: "CA 1", Node: "node-1"}

// example is a state of n Services with 5 endpoints each.
func example(n int) State {
	// The names of pods do not repeat.
	random := rand.New(rand.NewPCG(1, 2))
	s := State{
		AsOf: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: "a"}}},
	}
	name, port, ready, protocol := "http", int32(8080), true, corev1.ProtocolTCP
	for i := range n {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%d", i), UID: types.UID(fmt.Sprintf("%016x", random.Uint64())), ResourceVersion: fmt.Sprint(1000 + i)},
			Spec: corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.96.%d.%d", i>>8, i&255), ClusterIPs: []string{fmt.Sprintf("10.96.%d.%d", i>>8, i&255)},
				Ports: []corev1.ServicePort{{Name: name, Port: 80, Protocol: protocol}}},
		}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%d-%x", i, random.Uint32()), Labels: map[string]string{discoveryv1.LabelServiceName: service.Name}, ResourceVersion: fmt.Sprint(5000 + i)},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
		}
		for range 5 {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.%d.%d.%d", random.IntN(256), random.IntN(256), random.IntN(256))}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("web-%d-%x", i, random.Uint32())},
			})
		}
		s.Services, s.Slices = append(s.Services, service), append(s.Slices, slice)
	}
	return s
}

func written(t *testing.T, s State) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kept")
	if _, err := Write(path, me, s); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	withoutNode := example(3)
	withoutNode.Node = nil
	for name, want := range map[string]State{"all": example(20), "without Node": withoutNode, "nothing": {AsOf: time.Unix(1, 0).UTC()}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kept")
			for range 2 { // the second replaces the first
				size, err := Write(path, me, want)
				info, statErr := os.Stat(path)
				if err != nil || statErr != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
					t.Fatalf("wrote %d bytes with %v; the file is %v, %v", size, err, info, statErr)
				}
			}
			got, err := Read(path, me)
			sameTime := got.AsOf.Equal(want.AsOf)
			got.AsOf = want.AsOf
			if err != nil || !sameTime || !reflect.DeepEqual(got, want) {
				t.Errorf("read %+v, %v", got, err)
			}
			if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
				t.Errorf("beside it there are %v", left)
			}
		})
	}
}

// Each file that cannot be used is refused as a whole, and the error says why.
func TestBadFiles(t *testing.T) {
	good, err := os.ReadFile(written(t, example(50)))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(good, []byte("\n"))
	stream := func(records string) []byte {
		var zipped bytes.Buffer
		zip := gzip.NewWriter(&zipped)
		io.WriteString(zip, records)
		zip.Close()
		return append(append(bytes.Clone(first), '\n'), zipped.Bytes()...)
	}
	head := "H\x28" + `{"cluster":"CA 1","node":"node-1"}      `
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x10
	summed := bytes.Clone(good)
	summed[len(summed)-6] ^= 1
	for name, bad := range map[string]struct {
		content []byte
		says    string
	}{
		"empty":             {nil, "no last state of usher"},
		"something else":    {[]byte("apiVersion: v1\nkind: List\n"), "no last state of usher"},
		"only zeros":        {make([]byte, 4096), "no last state of usher"},
		"cut in the line":   {first, "cut off"},
		"only the line":     {append(bytes.Clone(first), '\n'), "cut off"},
		"cut in the middle": {good[:len(good)/2], "cut off"},
		"cut by one byte":   {good[:len(good)-1], "cut off"},
		"a bit is flipped":  {flipped, "damaged"},
		"a wrong checksum":  {summed, "damaged: gzip: invalid checksum"},
		"a newer format":    {bytes.Replace(good, []byte("state 1\n"), []byte("state 2\n"), 1), "format 2, and this one reads 1"},
		"no format":         {bytes.Replace(good, []byte("state 1\n"), []byte("state x\n"), 1), "damaged"},
		"an endless line":   {append(bytes.Clone(first), bytes.Repeat([]byte("1"), 1000)...), "damaged"},
		"not zipped":        {append(bytes.Clone(first), "\nHello, world"...), "damaged"},
		"no header":         {stream(".\x00"), "header"},
		"two headers":       {stream(head + head), "header"},
		"no end":            {stream(head), "cut off"},
		"more than its end": {stream(head + ".\x00."), "damaged: 1 bytes follow"},
		"an odd header":     {stream("H\x01{"), "damaged"},
		"an odd record":     {stream(head + "X\x00"), "damaged"},
		"an odd object":     {stream(head + "S\x02\x07\xff"), "damaged"},
		"an object without": {stream(head + "S\x00"), "without a name"},
		"a huge record":     {stream(head + "S\xff\xff\xff\xff\xff\x01"), "damaged: a record of"},
		"an endless length": {stream(head + "S\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kept")
			if err := os.WriteFile(path, bad.content, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path, me)
			if err == nil || !strings.Contains(err.Error(), bad.says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "%!") {
				t.Errorf("the error is %v, want %q in it", err, bad.says)
			}
			if got.Services != nil || got.Slices != nil || got.Node != nil {
				t.Errorf("read a part: %+v", got)
			}
		})
	}
}

// What unpacks to more than it may is noticed before it takes the memory.
func TestBomb(t *testing.T) {
	var zipped bytes.Buffer
	fmt.Fprintf(&zipped, "%s%d\n", firstLine, format)
	zip, _ := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
	writeRecords(zip, me, State{})
	for range 5 {
		zip.Write(make([]byte, 1<<20))
	}
	zip.Close()
	if _, err := decode(&zipped, me, 4<<20); err == nil || !strings.Contains(err.Error(), "more than 4 MiB") {
		t.Errorf("the error is %v", err)
	}
}

func TestStateOfOthers(t *testing.T) {
	path := written(t, example(1))
	for says, other := range map[string]Owner{
		"another cluster":           {Cluster: "CA 2", Node: "node-1"},
		`another node, "node-1"`:    {Cluster: "CA 1", Node: "node-2"},
		`--service-proxy-name=""`:   {Cluster: "CA 1", Node: "node-1", ProxyName: "usher"},
		`it is that of another clu`: {},
	} {
		if _, err := Read(path, other); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: the error is %v, want %q in it", other, err, says)
		}
	}
}

// Whoever may write the file decides where connections go.
func TestFilesThatAreNotRead(t *testing.T) {
	path := written(t, example(1))
	refused := func(says string, change func() error) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, me); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v, want %q in it", err, says)
		}
	}
	refused("chmod go-w", func() error { return os.Chmod(path, 0o620) })
	refused("chmod go-w", func() error { return os.Chmod(path, 0o602) })
	if os.Geteuid() == 0 {
		refused("belongs to the user 65534", func() error { return errors.Join(os.Chmod(path, 0o600), os.Chown(path, 65534, 0)) })
	}
	refused("65 MiB, and a last state at most 64", func() error {
		return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600), os.Truncate(path, 65<<20))
	})
	refused("no regular file", func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) })
	if _, err := Read(path+"-none", me); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}

// A file that cannot be written leaves the one that is there.
func TestWriteFails(t *testing.T) {
	path := written(t, example(1))
	if err := os.MkdirAll(path+suffix+"/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(path, me, example(2)); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("the error is %v", err)
	}
	if s, err := Read(path, me); err != nil || len(s.Services) != 1 {
		t.Errorf("what is left is %+v, %v", s, err)
	}
	if _, err := Write(filepath.Join(path, "kept"), me, example(1)); err == nil {
		t.Error("it is written below a file")
	}
	if err := os.RemoveAll(path + suffix); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/version", path+suffix); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(path, me, example(2)); err != nil {
		t.Errorf("what lies in the way is in the way: %v", err)
	}
}

// Whoever names the wrong file does not lose it.
func TestWriteOverSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	for _, content := range []string{"root:x:0:0:root:/root:/bin/bash\n", "x"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Write(path, me, example(1)); err == nil || !strings.Contains(err.Error(), path+" holds something else") {
			t.Errorf("the error is %v", err)
		}
		if now, _ := os.ReadFile(path); string(now) != content {
			t.Errorf("it holds %q now", now)
		}
	}
	if _, err := Write(t.TempDir(), me, example(1)); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a folder: the error is %v", err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(path, me, example(1)); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// More than a reader takes is not written.
func TestBounds(t *testing.T) {
	c := &counter{w: io.Discard, n: maxFile - 1}
	if _, err := c.Write([]byte("ab")); err == nil || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("the error is %v", err)
	}
	s := example(1)
	s.Services[0].Annotations = map[string]string{"usher-proxy.io/x": strings.Repeat("x", maxRecord)}
	if err := encode(io.Discard, me, s); err == nil || !strings.Contains(err.Error(), "default/web-0") {
		t.Errorf("the error is %v", err)
	}
}

// Whatever a file holds, reading it ends: with a state that is whole, or an error.
func FuzzDecode(f *testing.F) {
	var plain bytes.Buffer
	if err := writeRecords(&plain, me, example(2)); err != nil {
		f.Fatal(err)
	}
	f.Add(plain.Bytes())
	f.Add([]byte("H\x28" + `{"cluster":"CA 1","node":"node-1"}      ` + ".\x00"))
	f.Fuzz(func(t *testing.T, records []byte) {
		var file bytes.Buffer
		fmt.Fprintf(&file, "%s%d\n", firstLine, format)
		zip := gzip.NewWriter(&file)
		zip.Write(records)
		zip.Close()
		s, err := decode(&file, me, maxStream)
		if err != nil {
			if s.Services != nil || s.Slices != nil || s.Node != nil {
				t.Errorf("a part with %v", err)
			}
			return
		}
		for _, o := range s.Services {
			if o.Name == "" {
				t.Error("a Service without a name")
			}
		}
		if err := encode(io.Discard, me, s); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

// FuzzFile has the whole file, not only what is in the stream.
func FuzzFile(f *testing.F) {
	var file bytes.Buffer
	if err := encode(&file, me, example(2)); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		if s, err := decode(bytes.NewReader(content), me, maxStream); err != nil && len(s.Services)+len(s.Slices) > 0 {
			t.Errorf("a part with %v", err)
		}
	})
}

// 10,000 Services with 5 endpoints each.
func BenchmarkWrite(b *testing.B) {
	s, path := example(10000), filepath.Join(b.TempDir(), "kept")
	for b.Loop() {
		size, err := Write(path, me, s)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(size), "B/file")
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "kept")
	if _, err := Write(path, me, example(10000)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Read(path, me); err != nil {
			b.Fatal(err)
		}
	}
}
