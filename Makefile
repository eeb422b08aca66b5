# The way in: `make help` lists what there is. Each step of the set-up has a stamp, so that a second run costs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
MESH_DATA_DIR ?= .mesh
KAFKA_VERSION := $(shell sed -n 's:.*<kafka\.version>\(.*\)</kafka\.version>.*:\1:p' deploy/local/kafka/pom.xml)
JARS := .mesh/cache/kafka-$(KAFKA_VERSION)/.complete
WEB := services/dashboard/web
SIMULATORS := tests/simulators
WEB_SOURCES := $(shell [ -d $(WEB) ] && find $(WEB) -type f -not -path '*/node_modules/*' -not -path '*/dist/*')
PAGE := $(if $(wildcard $(WEB)/package.json),$(WEB)/dist/index.html)

.PHONY: help setup system python jars page simulators run test test-fast test-panel screenshots check protos seed clean

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | grep -vE '^($(subst $() ,|,$(strip $(ABSENT) -))):' | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: system python jars page simulators ## everything that running and testing needs: packages, jars, the page

system:
	@scripts/setup_system.sh

python:
	@scripts/setup_python.sh

jars: | python
	@if [ ! -e $(JARS) ] && command -v mvn >/dev/null; then $(PYTHON) -m deploy.local.kafka; fi

page: | system
	@if command -v npm >/dev/null; then $(MAKE) -s $(PAGE); fi

$(WEB)/node_modules/.installed: $(WEB)/package.json $(WEB)/package-lock.json
	@echo "mesh: installing the page's packages"
# Not `npm ci`: it refuses a lock without the builds for other platforms, which not every registry has.
	@cd $(WEB) && npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.installed $(WEB_SOURCES)
	@echo "mesh: building the control panel's page"
	@cd $(WEB) && npm run --silent build >/dev/null
	@touch $@

simulators: | system
	@if command -v npm >/dev/null; then $(MAKE) -s $(SIMULATORS)/node_modules/.installed; fi

$(SIMULATORS)/node_modules/.installed: $(SIMULATORS)/package.json $(SIMULATORS)/package-lock.json
	@echo "mesh: installing the simulators of model providers"
	@cd $(SIMULATORS) && npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $@

run: setup ## start the whole stack on this machine; ARGS="--fresh" starts empty
	@exec $(PYTHON) -m services.cli up --data-dir $(MESH_DATA_DIR) $(ARGS)

seed: python ## make the demo account again on the stack that is running
	@$(PYTHON) -m deploy.local.seed $(MESH_DATA_DIR)

test: setup ## every test, on real engines
	@$(PYTHON) -m pytest -q $(ARGS)

test-fast: python ## unit and contract tests, a few seeds of the simulator
	@$(PYTHON) -m pytest -q tests/unit tests/contract tests/sim $(ARGS)

test-panel: setup ## the panel in headless Chromium on the embedded stack; MESH_TEST_SHOTS=folder keeps pictures
	@$(PYTHON) -m pytest -q tests/e2e/test_panel.py tests/e2e/test_panel_pages.py tests/e2e/test_panel_story.py tests/e2e/test_panel_people.py tests/e2e/test_panel_operator.py tests/e2e/test_top_up.py $(ARGS)

screenshots: setup ## pictures of every page of the panel, in every state, into docs/screenshots
	@$(PYTHON) -m tests.e2e.screenshots docs/screenshots $(ONLY)

check: python ## format, lint, types, layers, sizes, contracts, generated files, containers
	@scripts/check.sh

protos: python ## generate the code of the contracts
	@scripts/protos.sh

.PHONY: checklist-mutants
checklist-mutants: setup ## the wire broken on purpose, one requirement at a time: its test must fail; ARGS="stream auto"
	@$(PYTHON) -m tests.checklist.mutants $(ARGS)

# These are offered once there is something for them to run; until then they are no targets.
ABSENT :=
ifneq ($(wildcard tests/bench/*.py),)
.PHONY: bench
bench: setup ## measure; one JSON line a figure, with its baseline; BENCH=billing measures that part alone
	@for file in tests/bench/$(BENCH)*.py; do name=$${file##*/}; \
	  case $$name in _*) ;; *) $(PYTHON) -m tests.bench.$${name%.py} $(ARGS) ;; esac; done
else
ABSENT += bench
endif
ifneq ($(wildcard tests/sim/test_*.py),)
.PHONY: sim sim-stripe sim-mutants sim-stripe-mutants
sim: python ## the deterministic simulator of the money; SEEDS=300, or SEED=7 for one again
	@$(PYTHON) -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100)) $(ARGS)
sim-stripe: python ## payments against the simulated gateway, with faults and crashes; SEEDS=1000, or SEED=7
	@$(PYTHON) -m tests.sim.stripe_run $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100)) $(ARGS)
sim-mutants: python ## production code broken on purpose: the simulator must notice each way
	@$(PYTHON) -m tests.sim.mutants $(ARGS)
sim-stripe-mutants: python ## the same of payments
	@$(PYTHON) -m tests.sim.stripe_mutations
else
ABSENT += sim sim-stripe sim-mutants sim-stripe-mutants
endif
ifneq ($(wildcard tests/chaos/test_*.py),)
.PHONY: chaos
chaos: setup ## kill -9 of real processes under load; KILLS=200 SEED=7, then every invariant of the books
	@$(PYTHON) -m tests.chaos --kills $(or $(KILLS),40) $(if $(SEED),--seed $(SEED)) $(ARGS)
else
ABSENT += chaos
endif

ifneq ($(wildcard tests/soak/test_*.py),)
.PHONY: soak
soak: python ## simulated hours of mixed traffic in one gateway worker: memory flat, nothing left; HOURS=24 REQUESTS=500
	@$(PYTHON) -m tests.soak --hours $(or $(HOURS),24) $(if $(REQUESTS),--requests $(REQUESTS)) $(ARGS)
else
ABSENT += soak
endif

clean: ## remove what was built; accounts, logs and fetched jars stay (see `mesh up --fresh`)
	@rm -rf $(WEB)/dist $(WEB)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find services deploy tests scripts -name __pycache__ -not -path '*/node_modules/*' -prune -exec rm -rf {} +
	@echo "mesh: cleaned; .venv and .mesh are kept"
