#!/bin/sh
# Makes sure that the programs are there which make and boot a Debian with systemd. As root on a
# system with apt-get it installs what is missing; otherwise it says what to install, and fails.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# command or file, and package, one pair a line
needs='
debootstrap debootstrap
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
nsenter util-linux
systemd-nspawn systemd-container
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

lacking=$(missing)
[ -n "$lacking" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update
	# shellcheck disable=SC2046 # one word per package
	apt-get -qq install --no-install-recommends $(echo "$lacking" | cut -d ' ' -f 2 | sort -u)
	lacking=$(missing)
	[ -n "$lacking" ] || exit 0
fi
echo "$lacking" | while read -r what package; do
	echo "systemd/install-packages.sh: missing $what; install the package $package" >&2
done
exit 1
