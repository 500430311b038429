#!/bin/sh
# Runs the conformance cases with usher on manifests, by iptables and by bound addresses, with
# usher on a real API server, and with kube-proxy as the reference, and prints what became of
# each.
set -u
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin # iptables, also for ordinary users

USHER_CONFORMANCE_RESULTS=$(mktemp -d)
export USHER_CONFORMANCE_RESULTS
trap 'rm -rf "$USHER_CONFORMANCE_RESULTS"' EXIT

failed=0
run() {
	log=$USHER_CONFORMANCE_RESULTS/log
	go test -count=1 -timeout=30m -v -run "$1" "$2" >"$log" 2>&1 || { failed=1; cat "$log"; }
}
run '^TestWithManifests$' ./test/conformance
run '^TestWithManifestsBind$' ./test/conformance
run '^TestConformance$' ./test/cluster
run '^TestReference$' ./test/cluster

cd "$USHER_CONFORMANCE_RESULTS"
touch 'usher (manifests)' 'usher (bind)' 'usher (API)' kube-proxy
awk -F '\t' '
	{ number[FNR] = $1; name[FNR] = $2; result[FNR, column] = $3; rows = FNR
	  what = $3; sub(/ \(.*/, "", what); count[column, what]++; kinds[what] }
	$3 ~ /\(/ { why[FNR, column] = $3 }
	function word(i, c) { w = result[i, c]; sub(/ \(.*/, "", w); return w == "" ? "-" : w }
	END {
		line = "%2s | %-90s | %-17s | %-12s | %-11s | %s\n"
		printf line, "#", "case", "usher (manifests)", "usher (bind)", "usher (API)", "kube-proxy"
		for (i = 1; i <= rows; i++) printf line, number[i], name[i], word(i, 1), word(i, 2), word(i, 3), word(i, 4)
		split("usher (manifests),usher (bind),usher (API),kube-proxy", title, ",")
		for (i = 1; i <= rows; i++) for (c = 1; c <= 4; c++)
			if ((i, c) in why) printf "%2s %s: %s\n", number[i], title[c], why[i, c]
		for (c = 1; c <= 4; c++) {
			text = sprintf("conformance, %s: %d of %d pass, %d open", title[c], count[c, "pass"], rows, count[c, "open"])
			for (k in kinds) if (k != "pass" && k != "open" && count[c, k] > 0) text = text sprintf(", %d %s", count[c, k], k)
			print text
		}
	}' column=1 'usher (manifests)' column=2 'usher (bind)' column=3 'usher (API)' column=4 kube-proxy
exit $failed
