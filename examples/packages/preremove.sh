#!/bin/sh
# Before removing: dpkg calls it with "remove", or "upgrade", rpm with how many versions will be
# left.
set -e
case $1 in remove | 0) ;; *) exit 0 ;; esac
[ -z "$DPKG_ROOT" ] || exit 0

# Elsewhere than on a running system, in the root of an image say, the rules in the kernel are
# somebody else's.
if [ -d /run/systemd/system ]; then
	systemctl --no-reload disable --now usher.service || true
	# A usher that still answers is not that of the unit: a DaemonSet's, which needs its rules.
	answer=0
	usher status >/dev/null 2>&1 || answer=$?
	if [ $answer = 2 ]; then
		usher cleanup || echo "usher: rules may be left in the kernel: iptables-save | grep USHER shows them" >&2
	fi
else
	systemctl --no-reload disable usher.service 2>/dev/null || true
fi
