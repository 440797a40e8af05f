# Two commands to know: make demo, make test. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHONPATH := operator:trainer_image
# Without bytecode each process compiles what it imports again: 8 s of CPU for a worker of pytest, 16 for transformers.
unexport PYTHONDONTWRITEBYTECODE
# The environment is made when a recipe first asks for it, not when make reads this file.
VENV = $(or $(shell scripts/venv),$(error no virtual environment: see above))
# The test run makes it beside the cluster.
RUN = $(or $(PYTHON),python3) tests/run.py
TIERS := unit component trainer api render cluster chart

.PHONY: help demo test chaos faults lint format generate up load down clean $(TIERS:%=test-%)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: ## a cluster, Chorus, a Project with two plugins, to TRAINED and an answer (KEEP=1 leaves the cluster, KUBERNETES=1.34 is another version)
	@kind/cluster check
	@bash examples/demo/run.sh

test: ## every test, with all set-up (KEEP=1 leaves the cluster)
	@$(RUN) lint $(TIERS)

test-unit: ## logic alone, seconds (ARGS="-k word" goes to pytest, here and below)
test-component: ## one part with real files, processes, sockets and clocks
test-api: ## against a real API server, no engine
test-trainer: ## the LoRA trainer on small models
test-cluster: ## real pods in a kind cluster, or in that of KUBECONFIG
test-render: ## the Helm chart, rendered by Helm 3 and Helm 4
test-chart: ## the Helm chart, installed by Helm 3 and Helm 4 in a kind cluster
$(TIERS:%=test-%): test-%:
	@$(RUN) $* -- $(ARGS)

chaos: ## the long forms of the tests of every tier, or of TIER=unit, api or cluster alone (up to hours)
	@$(RUN) chaos $(TIER) -- $(ARGS)

faults: ## faults induced on real pods, nodes and the operator of a kind cluster (minutes)
	@$(RUN) cluster -- -m faults $(ARGS)

lint: ## ruff, mypy, the layer rule, shell scripts
	@$(RUN) lint

format: ## ruff format and its safe fixes
	@$(VENV)/bin/ruff check --fix --quiet . ; $(VENV)/bin/ruff format .

generate: ## crds/, the chart's values, docs/reference.md and docs/protocol.md from the models, docs/troubleshooting.md from the table of failures
	@$(VENV)/bin/python -m chorus_api.crd --out crds
	@PYTHONPATH=operator:hack $(VENV)/bin/python hack/chart.py
	@$(VENV)/bin/python hack/reference.py
	@$(VENV)/bin/python hack/outcomes.py
	@$(VENV)/bin/python hack/protocol.py

up: ## the cluster, two workers with two pretend GPUs each
	@kind/cluster up --workers 2 --gpus 2

load: ## what changed of Chorus into that cluster, and wait until it runs
	@scripts/load

down: ## delete our clusters, stop our engine
	@kind/cluster down

clean: down ## and delete images, registry data and tool caches
	@kind/cluster down --purge
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
