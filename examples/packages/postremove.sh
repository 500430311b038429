#!/bin/sh
# After removing: dpkg calls it with "remove" and then, if nothing is to be left, "purge"; rpm
# with how many versions are left.
set -e
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi

if [ "$1" = purge ]; then
	# The kubeconfig in /etc/usher is not the package's. The group stays too: files may have its id.
	rm -rf "$DPKG_ROOT/var/lib/usher" "$DPKG_ROOT/var/log/usher"
fi
