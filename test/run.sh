#!/bin/sh
# Runs the tests of the given packages, with the race detector where it can be
# built, and closes with how many tests ran, failed and were skipped.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # iptables, also for ordinary users

race=-race
if ! go build -race -o /dev/null ./cmd/usher 2>/dev/null; then
	race=
	echo "test/run.sh: without the race detector, which needs a C compiler and its headers" >&2
fi
# One test in two packages at a time: they share two cores with what they start.
exec go tool -modfile=test/tools/go.mod gotestsum --format=pkgname --hide-summary=skipped -- \
	$race -count=1 -timeout=20m "$@"
