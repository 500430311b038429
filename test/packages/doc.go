// Package packages tests what is installed on a node: the systemd unit and the configuration
// file in examples/systemd, and the packages that make dist builds, with their scripts.
//
// Those of the packages need some that are built: make test-packages builds them and says where
// they are ($USHER_DIST); make test skips them.
//
// A deb is installed by dpkg in a scratch root, with --root and chrootless maintainer scripts, which
// leave everything outside of it alone. What the scripts do on a running system is seen by
// programs of the same names in their path. Nothing here boots systemd.
package packages
