#!/bin/sh
# Builds control plane binaries that are not built yet and prints the directory that holds them.
#
#	build.sh etcd kube-apiserver
#
# The names are etcd, kube-apiserver, kube-proxy and kubectl. The directory lies below
# $USHER_CACHE (default: beside Go's build cache) and belongs to exactly this go.mod and Go
# version, so a changed version builds anew, and what is there never needs to be checked.
# A lock per binary lets callers in parallel wait for each other instead of building twice.
set -eu
cd "$(dirname "$0")"

kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
key=$kubernetes-$({ cat go.mod; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-12)
dir=${USHER_CACHE:-$(go env GOCACHE)/../usher-controlplane}/$key
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

package() {
	case $1 in
	etcd) echo go.etcd.io/etcd/server/v3 ;;
	kube-apiserver | kube-proxy | kubectl) echo "k8s.io/kubernetes/cmd/$1" ;;
	*) echo "build.sh: unknown binary $1" >&2; return 1 ;;
	esac
}

build() {
	tmp=$dir/.$1.$$
	trap 'rm -f "$tmp"' EXIT
	echo "building $1 ($kubernetes), once; this may take minutes" >&2
	CGO_ENABLED=0 nice go build -trimpath -o "$tmp" \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes" "$(package "$1")"
	mv "$tmp" "$dir/$1"
}

for name; do
	package "$name" >/dev/null
	[ -x "$dir/$name" ] && continue
	(
		flock 9
		[ -x "$dir/$name" ] || build "$name" # another caller may have built it meanwhile
	) 9>"$dir/.$name.lock"
done
echo "$dir"
