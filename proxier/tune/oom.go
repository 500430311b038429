package tune

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sirupsen/logrus"
)

// OOMScore sets how readily the kernel kills this process, and those that it
// starts, when memory runs out: -1000 (never) to 1000 (first). See proc(5). To
// go below what the process was started with takes CAP_SYS_RESOURCE; without
// that the score stays, and log is told so.
func OOMScore(adj int, log logrus.FieldLogger) { oomScore("/proc/self/oom_score_adj", adj, log) }

func oomScore(file string, adj int, log logrus.FieldLogger) {
	switch err := write(file, adj); {
	case errors.Is(err, fs.ErrPermission):
		log.Infof("without CAP_SYS_RESOURCE, the OOM killer treats usher like any process: oom_score_adj cannot be %d", adj)
	case err != nil:
		log.Warn(fmt.Errorf("set oom_score_adj to %d: %w", adj, err))
	}
}
