# What a developer types. `make unit` takes seconds, `make test` starts every
# server that it needs.

IMAGE    ?= slipway:latest
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Without the HTTP/2 of net/http, half a megabyte: Prefect's own client speaks HTTP/1.1 too
# (PREFECT_API_ENABLE_HTTP2 is off by default), and client-go brings another.
TAGS     := nethttpomithttp2
LDFLAGS  := -s -w -X main.version=$(VERSION)
SYFT     := github.com/anchore/syft/cmd/syft@v1.18.1
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

# One way to compile what is not a test under -race, so that Go's cache serves vet, tests and binaries alike.
export CGO_ENABLED := 0

.PHONY: build image sbom unit lint fuzz e2e parity system test proof downloads bench demo clean

build: ## bin/slipway
	go build -trimpath -buildvcs=false -tags $(TAGS) -ldflags "$(LDFLAGS)" -o bin/slipway ./cmd/slipway

image: ## the image for both architectures, with an SPDX SBOM; IMAGE=registry.example/slipway:1, PUSH=--push
	docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --build-arg VERSION=$(VERSION) -t $(IMAGE) $(PUSH) .

sbom: build ## bin/slipway.spdx.json: what the binary is made of, by syft
	cd /tmp && GOFLAGS=-mod=mod go run $(SYFT) scan file:$(CURDIR)/bin/slipway -q -o spdx-json=$(CURDIR)/bin/slipway.spdx.json

# The model of the protocol has no goroutines: -race would only make it slow.
unit: ## the product's tests: no server is started but in-process ones
	go vet ./...
	go test ./dispatch/protocol
	CGO_ENABLED=1 go test -race -shuffle=on $$(go list ./... | grep -v /protocol)

# Both caches (Go's, with the linter itself, and the linter's own) make it a matter of seconds after the first time.
lint: ## the rules of .golangci.yml, in both modules
	go run $(LINT) run ./...
	cd e2e && go run $(LINT) run ./...

# Counted, not timed: at the end of a time Go 1.26 may report "context deadline exceeded" for nothing (go.dev/issue/75804).
fuzz: ## properties of what reads foreign bytes, half a minute
	for f in render/FuzzRender:3000x render/FuzzNames:150000x render/FuzzCommand:200000x kube/FuzzPage:10000x prefect/FuzzWithoutMember:20000x internal/redact/FuzzRedact:10000x; do \
	  t=$${f##*/}; go test ./$${f%/*} -run XXX -fuzz "^$${t%:*}$$" -fuzztime "$${f#*:}" -fuzzminimizetime 100x || exit 1; done

# The control plane (its tag keeps it out of ./...) is compiled ahead, outside the tests' time limit.
e2e: ## end to end: a real control plane and real Prefect servers, on loopback
	cd e2e && go list -export -tags kube ./cmd/kube > /dev/null && go vet ./...
	$(MAKE) -j2 parity system

E2E := go test -vet=off -count=1 -timeout 60m -shuffle=on

parity: ## renderings and observations, compared with those of the Python worker itself
	cd e2e && $(E2E) -v ./parity

system: ## the tests on the whole system
	cd e2e && $(E2E) -parallel 8 -v ./tests

test: unit lint fuzz e2e ## everything

downloads: ## the modules that the linter and the end-to-end tests are made of
	cd e2e && go list -deps -test -tags kube ./... > /dev/null
	go run $(LINT) version > /dev/null

# PROOF_SEED repeats a run.
proof: ## one Job, one execution, nothing harmed, in all worlds: power cuts, storms of 32 over 500, flaky servers, restarts, skew, ...
	cd e2e && PROOF=full go test -vet=off -count=1 -timeout 150m -parallel 8 -v ./tests \
	  -run '^(TestPowerCut|TestStorm|TestFlakyServers|TestRestarts|TestMixedFleet|TestClockSkew|TestRetryBudget|TestPlacesThatChange|TestWorld.*)$$'

bench: ## side by side with the Python worker and with the servers' own limit
	cd e2e && go run ./cmd/bench && go run ./cmd/bench -on-time

demo: ## the whole system on this machine; KEEP=1 keeps it up
	@cd e2e && KEEP=$(KEEP) go run ./cmd/demo

clean:
	rm -rf bin
