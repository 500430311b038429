#!/bin/sh
# Copies iptables from a Debian that has it into the root of an image, with what it loads. Both backends
# are there, in directories of their own, of which $PATH names one: nothing has to be linked anew at
# run time, when the root may be read-only.
#
#	iptables.sh ROOT
set -eu
root=$1
umask 022

# with_libraries copies a program, the libraries that it is linked with, and the loader.
with_libraries() {
	ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "$root${library%/*}"
		cp -L "$library" "$root$library"
	done
	mkdir -p "$root${1%/*}"
	cp "$1" "$root$1"
}

for backend in nft legacy; do
	with_libraries /usr/sbin/xtables-$backend-multi
	names=$root/usr/lib/iptables/$backend
	mkdir -p "$names"
	for command in iptables ip6tables; do
		for name in $command $command-save $command-restore; do
			ln -sf "/usr/sbin/xtables-$backend-multi" "$names/$name"
		done
	done
done

# The matches and targets, without those of ebtables and arptables.
extensions=$(echo /usr/lib/*/xtables)
mkdir -p "$root$extensions"
cp -P "$extensions"/libxt_* "$extensions"/libipt_* "$extensions"/libip6t_* "$root$extensions"

mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run/usher" "$root/etc"
: >"$root/run/xtables.lock"
cp /etc/protocols "$root/etc/" 2>/dev/null || true # names instead of numbers in what iptables-save prints
