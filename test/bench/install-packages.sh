#!/bin/sh
# Makes sure that the programs which usher is measured beside are there. As root on a system
# with apt-get it installs what is missing, and starts none of it; otherwise it says what to
# install, and fails.
set -eu
PATH=$PATH:/usr/sbin:/sbin # where some of them are, also for ordinary users

# command or file, and package, one pair a line
needs='
dnsperf dnsperf
haproxy haproxy
iperf3 iperf3
nginx nginx
/usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream
nsd nsd
wrk wrk
'

# missing prints the pairs that are not there.
missing() {
	echo "$needs" | while read -r what package; do
		case $what in
		'') ;;
		/*) [ -e "$what" ] || echo "$what $package" ;;
		*) command -v "$what" >/dev/null || echo "$what $package" ;;
		esac
	done
}

complain() {
	missing | while read -r what package; do
		echo "bench/install-packages.sh: missing $what; install the package $package" >&2
	done
	exit 1
}

# Packages of daemons start them, unless this program says no.
policy=/usr/sbin/policy-rc.d

# forbid_starts makes it say no. One that is there and allows them is somebody's decision.
forbid_starts() {
	if [ -e "$policy" ]; then
		denied=0
		"$policy" nginx start >/dev/null || denied=$?
		[ "$denied" = 101 ] && return
		echo "bench/install-packages.sh: $policy lets packages start their daemons; install them yourself" >&2
		complain
	fi
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
}

# forbid_boot keeps the daemons among the packages from starting with the machine.
forbid_boot() {
	command -v systemctl >/dev/null || return 0
	for package in "$@"; do
		case $package in
		haproxy | nginx | nsd) systemctl --quiet disable "$package" ;;
		esac
	done
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || complain

packages=$(echo "$lacking" | cut -d ' ' -f 2 | sort -u)
forbid_starts
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # one word per package
apt-get -qq install --no-install-recommends $packages
# shellcheck disable=SC2086
forbid_boot $packages
[ -z "$(missing)" ] || complain
