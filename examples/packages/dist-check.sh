#!/bin/sh
# Builds once more what is in dist, from a copy of the sources in another directory and time zone, with
# another umask and nothing that was compiled before, and says whether all files are the same byte by byte.
#
#	make dist && VERSION=... examples/packages/dist-check.sh [ARCHITECTURE...]
set -eu
cd "$(dirname "$0")/../.."
: "${VERSION:=$(git describe --tags --always --dirty)}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export VERSION SOURCE_DATE_EPOCH

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
copy=$dir/of/the/same/sources
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -cf - | tar -C "$copy" -xmf -

(umask 077 && TZ=Asia/Tokyo HOSTNAME=elsewhere GOCACHE=$dir/cache "$copy/examples/packages/dist.sh" "$@") >/dev/null

if ! diff dist/SHA256SUMS "$copy/dist/SHA256SUMS"; then
	echo "dist-check: the second build (>) is not the first (<)" >&2
	exit 1
fi
(cd dist && sha256sum --quiet --check SHA256SUMS)
echo "dist-check: both builds are the same:"
cat dist/SHA256SUMS
