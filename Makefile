# Every command that development and CI run. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export CLUSTER ?= modelset
# Tests begin seconds sooner when pytest finds what it made of their assertions the last time.
unexport PYTHONDONTWRITEBYTECODE
# Not STACK, which is for whoever calls: pull or build.
stack := python3 -m stack
DEV = dev=$$($(stack) python dev);
PYTEST = $(DEV) "$$dev/bin/python" -m pytest
PYTHON_SOURCES := operator serve_app stack tests examples

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

# ---- the main job ----

.PHONY: demo
demo: machine ## from nothing to an answer of a model on Kubernetes
	@$(stack) demo

.PHONY: run
run: machine ## the proxy without Kubernetes, in front of the Ollama at OLLAMA_URL
	@$(DEV) cd serve_app && set -a && . ./serve.env && \
	  export RAY_SERVE_HAPROXY_BINARY_PATH="$$PWD/modelset_proxy/serving/haproxy.sh" && \
	  PYTHONPATH=. PATH="$$dev/bin:$$PATH" serve run modelset_proxy.app:app

# ---- tests ----

.PHONY: test
test: lint unit chart-test e2e-core ## all tests but the longest: lint, unit, chart, end to end

.PHONY: lint
lint: machine ## ruff, mypy, import-linter, actionlint; and what needs a cluster can be collected
	@$(DEV) "$$dev/bin/ruff" check . && "$$dev/bin/ruff" format --check . \
	  && "$$dev/bin/mypy" operator/modelset_operator operator/modelset_cache serve_app/modelset_proxy stack tests benchmarks \
	  && PYTHONPATH=operator:serve_app "$$dev/bin/lint-imports" \
	  && "$$($(stack) tool actionlint)" -shellcheck= -pyflakes= \
	  && { said=$$("$$dev/bin/python" -m pytest --collect-only -qqq tests/e2e tests/upgrade tests/install tests/mirror) || { echo "$$said"; exit 1; }; }

.PHONY: unit
unit: machine ## unit tests: no cluster, under half a minute
	@$(DEV) $(MAKE) --jobs=2 --keep-going $(apart) unit-operator unit-proxy

# Beside each other, each half is half as long: with two cores and one run, workers would import and collect all
# of both, and a third process would be busy with what they tell of each test. What both need is there before.
apart = $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
EACH_HALF = --numprocesses=$$(cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores > 3 ? cores / 2 : 0)))

.PHONY: unit-operator
unit-operator: machine ## unit tests of the operator and the stack
	@$(PYTEST) $(EACH_HALF) operator/tests tests/unit

.PHONY: unit-proxy
unit-proxy: machine ## unit tests of the proxy and the benchmarks
	@$(PYTEST) $(EACH_HALF) serve_app/tests benchmarks

.PHONY: mutants
mutants: machine ## small changes to the code: do the unit tests notice? (MUTANTS='dispatch/core.py operator/plan')
	@$(DEV) PYTHONPATH=.:operator:serve_app "$$dev/bin/python" -m tests.mutants $(MUTANTS)

.PHONY: crash
crash: machine ## the operator is killed at every write, and every watch event goes astray
	@$(PYTEST) operator/tests -m crash

.PHONY: fuzz
fuzz: machine ## 20,000 generated requests: no 5xx, no hang (FUZZ='COUNT SEED')
	@$(DEV) PYTHONPATH=.:serve_app "$$dev/bin/python" -m serve_app.tests.fuzz $(FUZZ)

.PHONY: chart-test
chart-test: machine ## the Helm chart: rendered, validated against schemas
	@HELM=$$($(stack) tool helm); HELM_UNITTEST=$$($(stack) tool helm-unittest); \
	  KUBECONFORM=$$($(stack) tool kubeconform); KUBE_SCORE=$$($(stack) tool kube-score); \
	  KUBERNETES=$$($(stack) source kubernetes); PROMETHEUS_OPERATOR=$$($(stack) source prometheus-operator); \
	  export HELM HELM_UNITTEST KUBECONFORM KUBE_SCORE KUBERNETES PROMETHEUS_OPERATOR; \
	  $(PYTEST) charts

.PHONY: e2e
e2e: up ## end to end on kind, with real KubeRay, Ray Serve and Ollama (E2E='-k name' selects)
	@$(PYTEST) tests/e2e --durations=25 $(E2E)

.PHONY: e2e-core
e2e-core: up ## end to end, but for the tests that take longest
	@$(PYTEST) tests/e2e --durations=25 -m 'not long' $(E2E)

.PHONY: e2e-upgrade
e2e-upgrade: machine ## 0.1.0 with a live set, upgraded to this chart, on a kind cluster of its own
	@export CLUSTER=$(CLUSTER)-upgrade; $(PYTEST) tests/upgrade $(E2E)

.PHONY: e2e-install
e2e-install: machine ## what README and docs/install.md tell to type, on an empty kind cluster of three nodes, and back
	@export CLUSTER=$(CLUSTER)-install WORKERS=2; $(PYTEST) tests/install $(E2E)

.PHONY: e2e-mirror
e2e-mirror: machine ## `STACK=pull make demo` through a mirror that holds what is built here
	@export CLUSTER=$(CLUSTER)-mirror STACK=build; $(PYTEST) tests/mirror $(E2E)

.PHONY: compat
compat: machine ## a core of the end-to-end tests on the oldest and newest Kubernetes, KubeRay and Ollama, a kind cluster each (COMPAT=oldest)
	@COMPAT= $(stack) compat $(COMPAT)

# ---- measurements ----

.PHONY: bench
bench: machine ## what the proxy costs, beside LiteLLM, plain uvicorn and no proxy
	@$(DEV) "$$dev/bin/python" -m benchmarks.run

.PHONY: bench-dispatch
bench-dispatch: machine ## where requests go: simulated, on stubs and on real Ollamas; a line a floor
	@$(DEV) PYTHONPATH=.:operator:serve_app "$$dev/bin/python" -m benchmarks.dispatch

.PHONY: bench-routing
bench-routing: machine ## our routing beside taking turns, on two real Ollamas
	@$(DEV) "$$dev/bin/python" -m benchmarks.routing

.PHONY: bench-variants
bench-variants: machine ## 50 variants of one base on a real Ollama: disk, loads, whose answers; a line a floor (VARIANTS=6 EACH=4)
	@$(DEV) PYTHONPATH=.:operator:serve_app "$$dev/bin/python" -m benchmarks.variants $(if $(VARIANTS),--variants $(VARIANTS)) $(if $(EACH),--each $(EACH))

.PHONY: bench-operator
bench-operator: machine ## the operator at a real API server beside many sets; a line a floor (SETS=50 IDLE=60)
	@$(DEV) PYTHONPATH=. "$$dev/bin/python" -m benchmarks.operator $(if $(SETS),--sets $(SETS)) $(if $(IDLE),--idle $(IDLE))

.PHONY: bench-fleet
bench-fleet: up ## bursts on the kind cluster: pods by demand, a fixed number, a Deployment a model; a line a floor
	@$(DEV) PYTHONPATH=.:operator:serve_app "$$dev/bin/python" -m benchmarks.fleet

.PHONY: bench-idle
bench-idle: up ## what a set costs on the kind cluster that nobody asks: memory and CPU of each process
	@$(DEV) "$$dev/bin/python" -m benchmarks.idle

# ---- what is known to be wrong ----

.PHONY: audit
audit: machine ## known vulnerabilities of what others get; asks PyPI and vuln.go.dev (VULNDB=file:///… a copy of it)
	@$(stack) audit

# ---- the stack ----

.PHONY: up
up: machine ## engine, images, kind cluster, KubeRay, model registry, operator (WORKERS=2: three nodes)
	@$(stack) up

.PHONY: down
down: machine ## delete the kind cluster; everything that was built stays
	@$(stack) down

.PHONY: images
images: machine ## pull or build all images, and name them
	@$(stack) images

.PHONY: clean
clean: machine ## delete the cluster, the images and everything that was built
	@$(stack) clean

# ---- what others install ----

.PHONY: images-push
images-push: machine ## our images and the chart into REGISTRY, for a cluster of your own (PLATFORMS=linux/amd64,linux/arm64)
	@$(stack) push

.PHONY: install
install: machine ## the chart from REGISTRY onto the cluster that kubectl is set to
	@$(stack) install

.PHONY: release
release: machine ## images, SBOMs, chart, signatures and notes of this version into REGISTRY (DRY_RUN=1: into one of this machine)
	@$(stack) release

# ---- upkeep ----

.PHONY: format
format: machine ## let ruff format and fix
	@$(DEV) "$$dev/bin/ruff" check --fix . ; "$$dev/bin/ruff" format .

.PHONY: chart-readme
chart-readme: machine ## the table of values in the chart's README, from values.yaml
	@$(DEV) "$$dev/bin/python" -m stack.chart_readme

.PHONY: pins
pins: machine ## compile the hashed requirement files anew
	@$(DEV) compile() { "$$dev/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-header "$$@"; }; \
	  compile -o pins/pip.txt pins/pip.in; \
	  compile -o pins/go.txt pins/go.in; \
	  compile -o pins/operator.txt operator/pyproject.toml; \
	  compile -o pins/serve-app.txt serve_app/pyproject.toml; \
	  compile -o pins/dev.txt operator/pyproject.toml serve_app/pyproject.toml pins/dev.in; \
	  compile -o pins/openai-suite.txt pins/openai-suite.in; \
	  compile -o pins/bench.txt pins/bench.in; \
	  compile -o pins/audit.txt pins/audit.in

# Python runs everything else; Debian's is installed where there is none.
.PHONY: machine
machine:
	@command -v python3 >/dev/null || (apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-venv ca-certificates)
