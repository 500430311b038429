#!/bin/sh
# After installing: dpkg calls it with "configure" and the version before, if there was one, rpm
# with how many versions there are now.
set -e

systemd-sysusers ${DPKG_ROOT:+--root="$DPKG_ROOT"} usher.conf ||
	echo "usher: the unit needs the group usher: groupadd --system usher" >&2
[ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ] || exit 0
systemd-tmpfiles --create usher.conf || true
systemctl daemon-reload || true

case "$1 $2" in
"configure " | "1 "*)
	# Another proxy may serve this node. So usher neither starts nor is enabled.
	echo "usher is installed and does not run. See /etc/usher/config.yaml, usher check, systemctl enable --now usher." ;;
*)
	# A usher that runs goes on as the new version, with its connections. If that one does not
	# prove itself the old one stays, which is no reason to leave the package half installed.
	systemctl try-reload-or-restart usher.service ||
		echo "usher: still the version before: journalctl -u usher tells why" >&2 ;;
esac
