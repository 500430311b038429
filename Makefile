# The two commands to begin with are `make demo` and `make test`.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/usher-proxy/usher/cmd/usher/cli.version=$(VERSION)

.PHONY: build demo dist dist-check test test-cluster test-systemd test-packages conformance bench bench-tcp bench-udp bench-endpoints bench-scale bench-seen bench-upgrade upgrades lint clean

build: ## bin/usher, a static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/usher ./cmd/usher

demo: build ## serve a few Services on this machine: no cluster, no privileges
	bin/usher demo

test: build ## everything but the tests against a real API server
	test/install-packages.sh
	-test/bench/install-packages.sh # without these programs the tests that run them are skipped
	-test/ui/install-packages.sh # likewise
	test/run.sh $(shell go list ./... | grep -v -e /test/cluster -e /test/apiserver -e /test/scale -e /test/systemd)

test-cluster: build ## the same binary against a real API server
	test/install-packages.sh
	test/controlplane/build.sh etcd kube-apiserver kubectl kube-proxy
	test/run.sh ./test/cluster/... ./test/apiserver/... ./test/scale/...

test-systemd: build ## a real systemd runs the unit: start, reload, restart, watchdog, crash, stop (root)
	test/install-packages.sh
	test/systemd/install-packages.sh
	test/run.sh ./test/systemd/...

dist: ## dist: tar.gz, deb and rpm for amd64 and arm64, and their checksums
	VERSION='$(VERSION)' examples/packages/dist.sh

dist-check: dist ## build it once more, elsewhere: is it the same byte by byte? (some minutes)
	VERSION='$(VERSION)' examples/packages/dist-check.sh

test-packages: dist-check ## what make dist has built, installed by dpkg and rpm in scratch roots
	test/install-packages.sh
	test/packages/install-packages.sh
	USHER_DIST='$(CURDIR)/dist' test/run.sh ./test/packages

conformance: ## the 75 cases in one table: usher on manifests, by iptables and by bind, on an API server, kube-proxy
	test/install-packages.sh
	test/controlplane/build.sh etcd kube-apiserver kubectl kube-proxy
	test/conformance/run.sh

bench: bench-tcp bench-udp bench-endpoints bench-scale bench-seen bench-upgrade ## benchmarks, with what they allocate; beside nginx, HAProxy and kernel DNAT
	go test -run '^$$' -bench . -benchmem ./balancer/... ./proxier/... ./iptables/...

bench-tcp: ## requests, connections, bulk and idle connections through usher, nginx stream, HAProxy and kernel DNAT (25 minutes, on a quiet machine)
	test/install-packages.sh
	test/bench/install-packages.sh
	PATH=$$PATH:/usr/sbin:/sbin go test -run '^$$' -bench TCP -timeout=2h ./test/bench

bench-udp: ## DNS through usher, nginx stream and kernel DNAT (15 minutes, on a quiet machine)
	test/install-packages.sh
	test/bench/install-packages.sh
	PATH=$$PATH:/usr/sbin:/sbin go test -run '^$$' -bench UDP -timeout=1h ./test/bench -rounds=5 -duration=5s

bench-endpoints: ## every balancer with endpoints that are slow, refuse, flap or are silent (2 minutes)
	go test -run '^$$' -bench . ./test/policies

bench-scale: ## 10,000 Services and 50,000 endpoints, a real API server, beside kube-proxy nftables (8 minutes)
	test/install-packages.sh
	test/controlplane/build.sh etcd kube-apiserver kube-proxy
	USHER_SCALE_RESULTS=results go test -run '^$$' -bench Scale ./test/scale

bench-seen: ## what it costs to tell of connections: no line each, a line each, five observers besides (8 minutes, on a quiet machine)
	test/install-packages.sh
	test/bench/install-packages.sh
	PATH=$$PATH:/usr/sbin:/sbin go test -run '^$$' -bench Seen -timeout=1h ./test/bench

bench-upgrade: ## ten upgrades in place with 1,000 Services and 5,000 connections, beside reloads of HAProxy and nginx (3 minutes)
	test/install-packages.sh
	test/bench/install-packages.sh
	PATH=$$PATH:/usr/sbin:/sbin go test -run '^$$' -bench Upgrade -timeout=30m ./test/handover -results=../bench/results

upgrades: ## ten upgrades in a row under load by each carrier: in place, to another process, through systemd; and SIGKILL (2 minutes, root)
	test/install-packages.sh
	test/bench/install-packages.sh
	test/systemd/install-packages.sh
	rm -f test/bench/results/carriers.txt
	PATH=$$PATH:/usr/sbin:/sbin go test -count=1 -p=1 -run 'UnderLoad$$' -timeout=30m ./test/handover ./test/takeover ./test/systemd \
		-upgrades=10 -dnsperf -results=../bench/results
	cat test/bench/results/carriers.txt

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-clean:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go tool -modfile=test/tools/go.mod staticcheck ./...

clean:
	rm -rf bin dist
