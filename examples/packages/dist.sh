#!/bin/sh
# Builds what is published of a version, in dist: for each architecture a tar.gz, a deb and an rpm,
# and SHA256SUMS. Nothing but the sources gets into them: who builds the same commit with the same
# version of Go has the same bytes, as dist-check.sh sees.
#
#	VERSION=v1.2.3 examples/packages/dist.sh [ARCHITECTURE...]
#
# SOURCE_DATE_EPOCH is the date of all files, else that of the commit.
set -eu
cd "$(dirname "$0")/../.."
umask 022
export LC_ALL=C TZ=UTC
: "${VERSION:=$(git describe --tags --always --dirty)}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
[ $# -gt 0 ] || set -- amd64 arm64

# package_version is $VERSION as dpkg and rpm order it: 1.2.3~rc.1 < 1.2.3 < 1.2.3+4.gabcdef0, and
# what has no tag before it is older than all.
package_version() {
	case $VERSION in
	[0-9]*.* | v[0-9]*.*)
		echo "$VERSION" |
			sed -e 's/^v//' -e 's/-dirty$/+dirty/' -e 's/-\([0-9]*\)-g\([0-9a-f]*\)/+\1.g\2/' -e 's/-/~/' -e 's/-/./g' ;;
	*) echo "0~$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$(echo "$VERSION" | tr - +)" ;;
	esac
}

# modules are those in the binary: path, version and directory.
modules() {
	GOOS=linux GOARCH=amd64 CGO_ENABLED=0 go list -deps \
		-f '{{with .Module}}{{if .Version}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/usher | sort -u
}

licenses() {
	modules | while read -r module version dir; do
		for file in "$dir"/LICENSE* "$dir"/LICENCE* "$dir"/COPYING* "$dir"/NOTICE*; do
			[ -f "$file" ] || continue
			printf '\n==== %s %s: %s\n\n' "$module" "$version" "${file##*/}"
			cat "$file"
		done
	done
	printf '\n==== Go: LICENSE\n\n'
	cat "$(go env GOROOT)/LICENSE"
}

# for_all_architectures makes what is the same for each.
for_all_architectures() {
	go run ./cmd/usher/manual -version "$VERSION" "$build"
	gzip -9n "$build"/man/*
	gzip -9nc CHANGELOG.md >"$build/CHANGELOG.md.gz"
	licenses >"$build/THIRD-PARTY-LICENSES"
}

binary() { # the architecture
	CGO_ENABLED=0 GOOS=linux GOARCH=$1 GOAMD64=v1 GOARM64=v8.0 GOFLAGS= go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X github.com/usher-proxy/usher/cmd/usher/cli.version=$VERSION" -o "$build/$1/usher" ./cmd/usher
}

packages() { # the architecture
	for packager in deb rpm; do
		ARCH=$1 VERSION=$(package_version) go tool -modfile=test/tools/go.mod nfpm package \
			--config examples/packages/nfpm.yaml --packager $packager --target dist/
	done
}

tarball() { # the architecture
	name=usher_${VERSION}_linux_$1
	top=$build/$name
	mkdir "$top"
	cp -R "$build/$1/usher" "$build/man" "$build/completions" "$build/THIRD-PARTY-LICENSES" \
		examples/systemd LICENSE README.md CHANGELOG.md "$top"
	tar -C "$build" --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
		--mode=u=rwX,go=rX -cf - "$name" | gzip -9n >"dist/$name.tar.gz"
}

build=dist/build
rm -rf dist
mkdir -p $build
for_all_architectures
for architecture in "$@"; do
	binary "$architecture"
	packages "$architecture"
	tarball "$architecture"
done
rm -rf $build
(cd dist && sha256sum -- * >SHA256SUMS)
