package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/cmd/usher/cli"
	"github.com/usher-proxy/usher/proxier/admin"
)

func main() {
	version := flag.String("version", "unknown", "of usher, for the feet of the pages")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: manual [-version VERSION] DIRECTORY") }
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(flag.Arg(0), *version); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

// write fills dir/man and dir/completions.
func write(dir, version string) error {
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	if err := errors.Join(os.MkdirAll(man, 0o755), os.MkdirAll(completions, 0o755)); err != nil {
		return err
	}
	root := cli.Command(nil)
	root.DisableAutoGenTag = true
	asOnNode(root)
	date, err := sourceDate()
	if err != nil {
		return err
	}
	header := doc.GenManHeader{Section: "1", Date: &date, Source: "usher " + version, Manual: "usher"}
	return errors.Join(
		doc.GenManTree(root, &header, man),
		writeConfigPage(filepath.Join(man, "usher-config.5"), header),
		root.GenBashCompletionFileV2(filepath.Join(completions, "usher.bash"), true),
		root.GenZshCompletionFile(filepath.Join(completions, "_usher")),
		root.GenFishCompletionFile(filepath.Join(completions, "usher.fish"), true),
	)
}

// sourceDate is the same in every time zone.
func sourceDate() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s: want seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// asOnNode gives flags the defaults that they have for root, whoever writes the pages.
func asOnNode(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { nodeDefault(f) })
	for _, c := range cmd.Commands() {
		asOnNode(c)
	}
}

func nodeDefault(f *pflag.Flag) {
	if f.Name == "admin-socket" {
		f.DefValue = admin.NodeSocket
	}
}
