package handover

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// BenchmarkParcel is what a Parcel costs the process that leaves, and the one that
// arrives.
func BenchmarkParcel(b *testing.B) {
	for _, c := range []struct{ megabytes, files int }{{10, 0}, {0, 8000}} {
		p := Parcel{State: make([]byte, c.megabytes<<20), Files: sockets(b, c.files)}
		name := fmt.Sprintf("%dMB,%d files", c.megabytes, c.files)
		b.Run(name+"/leave", func(b *testing.B) {
			for b.Loop() {
				socket, err := Post(p)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				closeAll([]int{socket})
				b.StartTimer()
			}
		})
		b.Run(name+"/arrive", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				socket, err := Post(p)
				if err != nil {
					b.Fatal(err)
				}
				os.Setenv(execEnv, strconv.Itoa(socket))
				b.StartTimer()
				got, err := Received()
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				closeAll(got.Files)
				b.StartTimer()
			}
		})
	}
}
