#!/bin/sh
# Makes sure that there is what reads and installs packages. As root on a system with apt-get it
# installs what is missing; otherwise it says what to install, and fails.
set -eu

missing() {
	for program in dpkg rpm; do command -v $program >/dev/null || echo $program; done
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update
	# shellcheck disable=SC2086 # one word per package
	apt-get -qq install --no-install-recommends $lacking
	exit 0
fi
for program in $lacking; do echo "packages/install-packages.sh: missing $program; install the package $program" >&2; done
exit 1
