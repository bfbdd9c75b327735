# My Care Record. Bare `make` prints this help. Only Go is needed.
SHELL := /bin/bash
GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Modules of their own, for tests that need heavy dependencies.
NESTED := $(patsubst %/go.mod,%,$(wildcard test/*/go.mod test/*/*/go.mod))
FUZZTIME ?= 60s
# What `make torture` runs; a part of it can be named.
TORTURE ?= ./consent ./broker ./test/torture/... ./test ./test/worklist ./audit ./audit/sqlite ./audit/postgres ./cmd/verify

.DEFAULT_GOAL := help
.PHONY: help run build test check race fuzz bench torture clients proto release

help: ## print this help
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

run: ## the demo neighbourhood: invented custodians that speak their own protocols, an issuer and the broker, on this machine
	$(GO) run ./cmd/demo -protocols own

build: ## the commands, into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

test: ## every test, and those of the nested modules
	$(GO) test ./...
	@for m in $(NESTED); do echo "== $$m"; (cd $$m && $(GO) test ./...) || exit 1; done

check: ## gofmt, vet, staticcheck, generated code up to date, example config loads, nested modules build
	@bad=$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); [ -z "$$bad" ] || { echo "not gofmt-ed:"; echo "$$bad"; exit 1; }
	$(GO) mod verify
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	bash proto/generate.sh -check
	$(GO) run ./cmd/broker check -config cmd/broker/broker.example.yaml
	@for m in $(NESTED); do echo "== $$m"; (cd $$m && $(GO) vet ./...) || exit 1; done

race: ## every test with the race detector; those that drive programs take fewer rounds, because these are built without it
	$(GO) test -race -count=1 ./...

fuzz: ## each fuzz target for FUZZTIME (60s), half an hour in all
	@$(GO) list ./... | while read -r p; do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	  echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$p || exit 1; done; done

bench: ## the broker against a floor, an easy version and lura (test/bench, 4 minutes), then benchmarks of the packages
	$(GO) run ./test/bench
	$(GO) test -run '^$$' -bench . -benchmem ./...

torture: ## kills, power losses, faults and bugs made on purpose, for about an hour; ends with each figure as "0 of N" and its seed
	@bash test/services/packages.sh
	@figures=$$(mktemp); MCR_TORTURE=long MCR_FIGURES=$$figures $(GO) test -p 1 -count=1 -timeout 100m -v $(TORTURE); code=$$?; \
	echo; echo "== figures"; cat $$figures; rm -f $$figures; exit $$code

clients: ## comes with a later issue: clients in other languages against the running broker
	@echo "make clients comes with the issue on clients; nothing was done."

proto: ## generate Go from proto/
	bash proto/generate.sh

release: ## comes with a later issue: signed, reproducible release archives
	@echo "make release comes with the issue on operations; nothing was done. make build gives the commands."
