package bench

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// settledSlab waits until the kernel's small objects are as many as a moment ago, and returns
// their size: it frees what is not used any more when it likes.
func settledSlab() (int64, error) {
	const moment, tolerance, patience = 200 * time.Millisecond, 64 << 10, 25
	last, err := slab()
	for range patience {
		if err != nil {
			return 0, err
		}
		time.Sleep(moment)
		before := last
		if last, err = slab(); err == nil && max(last-before, before-last) < tolerance {
			break
		}
	}
	return last, err // on a machine that does other things it is as good as it gets
}

// slab is the size in bytes of the small objects that the kernel uses, of those kinds that
// sessions may need. Where only the size of the pages with such objects may be read it is that,
// of all kinds.
func slab() (int64, error) {
	if text, err := os.ReadFile("/proc/slabinfo"); err == nil {
		return parseSlabinfo(string(text))
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return kibibytes(string(text), "Slab:")
}

// elsewhere are kinds of objects that files and processes need, not sockets and flows: whatever
// else the machine does changes them.
var elsewhere = regexp.MustCompile(`^(ext4_|xfs_|btrfs_|ovl_|fuse_|proc_|pde_|shmem_|tracefs_|debugfs_|kernfs_|bio|biovec|` +
	`inode_cache|buffer_head|radix_tree_node|vm_area_struct|vmap_area|anon_vma|maple_node|mm_struct|names_cache|` +
	`task_|signal_cache|sighand_cache|files_cache|pid|seq_file|extent_status|jbd2_|net_namespace|nsproxy)`)

// parseSlabinfo adds up the objects in use (slabinfo(5)): the name, how many are in use, how many
// there are, and the size of each.
func parseSlabinfo(text string) (sum int64, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] == "slabinfo" || fields[0] == "#" || elsewhere.MatchString(fields[0]) {
			continue
		}
		used, err1 := strconv.ParseInt(fields[1], 10, 64)
		size, err2 := strconv.ParseInt(fields[3], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("/proc/slabinfo: %w", err)
		}
		sum += used * size
	}
	return sum, nil
}
