package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const followerEnv = "USHER_TEST_FOLLOWER"

func init() {
	giveWay = func() {} // tests go on
	if os.Getenv(followerEnv) == "" {
		return
	}
	lowerPriority()
	var started, all sync.WaitGroup // new threads
	for range 4 {
		started.Add(1)
		all.Go(func() { started.Done(); started.Wait(); exec.Command("true").Run() })
	}
	all.Wait()
	stats, _ := filepath.Glob("/proc/self/task/*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path)
		fmt.Println("nice", strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))[16])
	}
	os.Exit(0)
}

// All threads of a follower give way, those too that come later; but none gets a higher priority.
func TestFollowersGiveWay(t *testing.T) {
	for nice, want := range map[string]string{"0": "nice 10\n", "15": "nice 15\n"} {
		follower := exec.Command("nice", "-n", nice, os.Args[0])
		follower.Env = append(os.Environ(), followerEnv+"=1")
		said, err := follower.CombinedOutput()
		if err != nil || strings.ReplaceAll(string(said), want, "") != "" || strings.Count(string(said), want) < 3 {
			t.Errorf("started with %s: %v\n%s", nice, err, said)
		}
	}
}
