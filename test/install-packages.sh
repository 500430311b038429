#!/bin/sh
# Makes sure that the commands which the tests run are there. As root on a system with apt-get
# it installs what is missing; otherwise it says what to install, and fails.
set -eu
PATH=$PATH:/usr/sbin:/sbin # where some of them are, also for ordinary users

# command or file, and package, one pair a line
needs='
curl curl
dig bind9-dnsutils
flock util-linux
ip iproute2
ip6tables-restore iptables
iptables-restore iptables
nft nftables
nsd nsd
ps procps
ss iproute2
'
# The race detector needs a C compiler. Without one the tests run without it. systemd-analyze
# looks at the unit.
wants='
gcc gcc
/usr/include/stdlib.h libc6-dev
setpriv util-linux
systemd-analyze systemd
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

# The tests run nsd themselves, in namespaces. So installing must neither start it nor have it
# start with the system.
policy=/usr/sbin/policy-rc.d # asked by packages before they start a service
forbid_services() {
	[ -e $policy ] && return
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
}
disable_service() {
	if command -v systemctl >/dev/null; then systemctl --quiet disable "$1"; fi
}

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

if may_install; then
	lacking=$(missing "$needs$wants")
	[ -n "$lacking" ] || exit 0
	packages=$(echo "$lacking" | cut -d ' ' -f 2 | sort -u)
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update
	forbid_services
	# shellcheck disable=SC2086 # one word per package
	apt-get -qq install --no-install-recommends $packages
	case $packages in *nsd*) disable_service nsd ;; esac
fi

lacking=$(missing "$needs")
[ -n "$lacking" ] || exit 0
echo "$lacking" | while read -r what package; do
	echo "install-packages.sh: missing $what; install the package $package" >&2
done
exit 1
