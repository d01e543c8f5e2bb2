# Estuary. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## build, make a development CA, start everything, enrol a first certificate, keep serving
	@scripts/run

.PHONY: compose-up
compose-up: ## the same in containers: build images, start compose.yaml, enrol a first certificate
	@scripts/compose up

.PHONY: compose-down
compose-down: ## remove what it made, with its keys and certificates
	@scripts/compose down

.PHONY: sbom
sbom: ## write a bill of materials (CycloneDX) for each of its images into bin/
	@scripts/sbom

.PHONY: test
test: ## install what tests need and run all of them
	@scripts/test

.PHONY: build
build: ## build the four binaries into bin/
	@scripts/build

.PHONY: lint
lint: ## run the linters
	@scripts/lint

.PHONY: fuzz
fuzz: ## fuzz every parser of outside bytes, FUZZTIME each (default 30s)
	@scripts/fuzz

.PHONY: bench
bench: ## run the benchmarks that docs/benchmarks.md quotes
	@scripts/bench

.PHONY: bench-otp
bench-otp: ## measure one-time passwords through LDAP and RADIUS beside the back ends' own rates
	@scripts/bench-otp

.PHONY: bench-krb
bench-krb: ## measure Kerberos tickets beside enrolment tokens
	@scripts/bench-krb

.PHONY: lab
lab: ## start the servers that tests use: 389-ds, OpenLDAP, FreeRADIUS, a KDC, PostgreSQL
	@scripts/lab up

.PHONY: lab-down
lab-down: ## stop them
	@scripts/lab down

.PHONY: soak
soak: ## run the reliability tests with the counts that docs/reliability.md quotes
	@scripts/soak

.PHONY: proto
proto: ## generate the Go code of proto/ again
	@scripts/proto

.PHONY: docs
docs: ## write docs/config.md again from the configuration structs
	@scripts/docs

.PHONY: tidy
tidy: ## tidy every module, in the order in which they need each other
	@scripts/tidy

.PHONY: clean-state
clean-state: ## remove the development state that `make run` made
	@scripts/clean-state
