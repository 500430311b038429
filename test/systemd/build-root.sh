#!/bin/sh
# Makes a Debian with systemd, iptables and nothing else of note, if it is not made yet, and
# prints its directory. It lies below $USHER_CACHE (default: beside Go's build cache) and
# belongs to exactly this recipe: a changed one makes it anew. It takes root, and is never
# changed later: machines write into a layer above it.
set -eu
cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin:/sbin

key=$(sha256sum build-root.sh | cut -c1-12)
cache=${USHER_CACHE:-$(go env GOCACHE)/../usher-systemd}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
root=$cache/$key

# dbus is for systemctl and busctl, iptables is usher's, iproute2 is for people who look into
# a machine that a test has left.
packages=systemd,systemd-sysv,dbus,iproute2,iptables

build() {
	tmp=$(mktemp -d "$cache/.building-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 1' HUP INT TERM
	echo "making a Debian with systemd, once; this may take minutes" >&2
	debootstrap --variant=minbase --include=$packages bookworm "$tmp/root" >"$tmp/log" 2>&1 || {
		tail -20 "$tmp/log" >&2
		return 1
	}
	rm -rf "$tmp/root/var/cache/apt" "$tmp/root/var/lib/apt/lists" "$tmp/root/usr/share/doc"
	rm -f "$tmp/root/var/lib/dbus/machine-id" "$tmp/root/etc/resolv.conf"
	: >"$tmp/root/etc/machine-id" # each machine gets one of its own
	mv "$tmp/root" "$root"
}

(
	flock 9
	[ -d "$root" ] || build # another caller may have made it meanwhile
) 9>"$cache/.lock" >&2
echo "$root"
