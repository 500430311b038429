#!/bin/sh
# Makes sure that there is a Chromium to open the page of usher ui in. As root on a system
# with apt-get it installs one; otherwise it says what to install, and fails.
set -eu

missing() {
	for program in chromium chromium-browser google-chrome; do
		if command -v "$program" >/dev/null; then return 1; fi
	done
}

missing || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "ui/install-packages.sh: missing chromium; install the package chromium" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends chromium
