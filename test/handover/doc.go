// Package handover upgrades usher in place under load (package load), with programs and
// configurations that are good and with all that can be wrong with them: whoever talks through
// usher sees nothing of it.
//
// BenchmarkUpgrade (make bench-upgrade) has more of everything, beside HAProxy and nginx, which
// reload. The other carriers of the same state are in test/takeover and test/systemd, and make
// upgrades has all three.
package handover
