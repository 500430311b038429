#!/bin/sh
# Makes sure that the commands which the tests run are there. As root on a system with apt-get
# it installs what is missing; otherwise it says what to install, and fails.
set -eu
PATH=$PATH:/usr/sbin:/sbin # where some of them are, also for ordinary users

# command or file, and package, one pair a line
needs='
curl curl
flock util-linux
ip iproute2
ip6tables-restore iptables
iptables-restore iptables
ps procps
ss iproute2
'
# The race detector needs a C compiler. Without one the tests run without it.
wants='
gcc gcc
/usr/include/stdlib.h libc6-dev
'

# missing prints the pairs of a list that are not there.
missing() {
	echo "$1" | while read -r what package; do
		case $what in
		'') ;;
		/*) [ -e "$what" ] || echo "$what $package" ;;
		*) command -v "$what" >/dev/null || echo "$what $package" ;;
		esac
	done
}

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

if may_install; then
	lacking=$(missing "$needs$wants")
	[ -n "$lacking" ] || exit 0
	packages=$(echo "$lacking" | cut -d ' ' -f 2 | sort -u)
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update
	# shellcheck disable=SC2086 # one word per package
	apt-get -qq install --no-install-recommends $packages
fi

lacking=$(missing "$needs")
[ -n "$lacking" ] || exit 0
echo "$lacking" | while read -r what package; do
	echo "install-packages.sh: missing $what; install the package $package" >&2
done
exit 1
