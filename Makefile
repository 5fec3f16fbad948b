# Everything a developer types. `make run` and `make test` need Python 3.11 or newer, and nothing
# else: they set up what is missing in .venv, and do it again when a lock file has changed.

VENV := .venv
PYTHON := $(VENV)/bin/python
PORT ?= 8000
DATA_DIR ?= var
WORKERS ?= 2
export PORT DATA_DIR WORKERS
# MLflow's clients of today are in .venv; those of yesterday need packages of their own.
OLD_CLIENT := $(VENV)/mlflow-2.22
# Tests keep their server apart from the one with your data. Bytecode is written whatever this
# machine says: pytest keeps the assertions there that it has rewritten, which takes ten seconds.
TEST = env -u PYTHONDONTWRITEBYTECODE DATA_DIR="$(DATA_DIR)/test" $(PYTHON) -m pytest
KUBERNETES = $(abspath $(DATA_DIR))/kubernetes
TEMPLATES = $(shell find templates -name '*.html')
# It indents and breaks no line: what a page says is wrapped by hand, so a diff shows what changed.
DJHTML = $(PYTHON) -m djhtml --tabwidth 2
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
BROWSER_PACKAGES := chromium fonts-inter fonts-dejavu-core fonts-liberation

.DEFAULT_GOAL := help
.PHONY: help run test test-kubernetes lint format bench pictures lock clean browser

help: ## List what can be typed
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-17s%s\n", $$1, $$2}' Makefile

run: $(VENV)/run-ready ## Serve the demo at 127.0.0.1:PORT (8000), data in DATA_DIR (var)
	@exec $(PYTHON) manage.py serve --demo

test: lint browser $(OLD_CLIENT)/ready ## Check the code, then run all tests
	@$(TEST) --numprocesses 2 --dist loadscope
	@$(TEST) --numprocesses 2 tests/browser

test-kubernetes: $(VENV)/test-ready ## Run the tests that need a real kube-apiserver, which is built once
	@if [ -z "$${KUBE_APISERVER-}" ]; then tests/live_cluster/build.sh "$(KUBERNETES)"; fi
	@KUBE_APISERVER="$${KUBE_APISERVER-$(KUBERNETES)/kube-apiserver}" \
		KUBE_CONTROLLER_MANAGER="$${KUBE_CONTROLLER_MANAGER-$(KUBERNETES)/kube-controller-manager}" \
		KUBE_POLICIES="$${KUBE_POLICIES-$(KUBERNETES)/policies}" \
		$(TEST) --live-cluster tests/live_cluster tests/kubernetes/test_sync.py \
		tests/kubernetes/test_sync_command.py

lint: $(VENV)/test-ready ## Check format, style, types, templates and the direction of imports
	@$(PYTHON) -m ruff format --check --quiet
	@$(PYTHON) -m ruff check --quiet
	@$(PYTHON) -m mypy --no-error-summary
	@wrong=$$($(DJHTML) --check $(TEMPLATES) 2>&1) || { echo "$$wrong"; exit 1; }
	@$(PYTHON) -m djlint --lint --quiet $(TEMPLATES)
	@PYTHONPATH=platform:. $(PYTHON) -c \
		'from importlinter.cli import lint_imports_command as lint; lint(["--no-cache", "--no-logo"])'

format: $(VENV)/test-ready ## Format the code and the templates
	@$(PYTHON) -m ruff check --quiet --fix-only
	@$(PYTHON) -m ruff format --quiet
	@$(DJHTML) $(TEMPLATES)

bench: $(VENV)/test-ready ## Measure the figures of docs/performance.md
	@$(PYTHON) -m tests.benchmarks
	@$(PYTHON) -m tests.benchmarks.mlflow
	@$(PYTHON) -m tests.benchmarks.files
	@$(PYTHON) -m tests.benchmarks.admission

pictures: $(VENV)/test-ready browser ## Take the README's pictures of the demo
	@$(PYTHON) -m tests.browser.pictures

clean: ## Remove .venv and what tools left behind; your data in DATA_DIR stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Locked packages: exact versions and the hashes of their files ---

# No settings of this machine's pip: the lock files must be the same wherever they are made.
LOCK = env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null \
	$(PYTHON) -m piptools compile --quiet --upgrade --allow-unsafe --generate-hashes --strip-extras \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	--no-emit-options
WANTED = $(PYTHON) -c 'import sys, tomllib; \
	wanted = tomllib.load(open("pyproject.toml", "rb")); \
	groups = [wanted["dependency-groups"][name] for name in sys.argv[1:]]; \
	print(*wanted["project"]["dependencies"], *sum(groups, []), sep="\n")'

lock: $(VENV)/test-ready ## Lock the newest versions that pyproject.toml allows
	$(WANTED) | $(LOCK) --output-file requirements.txt -
	$(WANTED) dev | $(LOCK) --constraint requirements.txt --output-file requirements-dev.txt -
	$(LOCK) --output-file tests/clients/mlflow-2.22.txt tests/clients/mlflow-2.22.in

# --- Setting up ---

# Touched when all packages of the lock file are there; made anew when .venv no longer works.
ifneq ($(shell $(PYTHON) -c 'print(1)' 2>/dev/null),1)
.PHONY: $(VENV)/run-ready $(VENV)/test-ready $(OLD_CLIENT)/ready
endif
INSTALL = -m pip install -qq --disable-pip-version-check --no-input --require-hashes

$(VENV)/run-ready: requirements.txt
	@$(MAKE_VENV)
	@echo "Installing the packages of $< in $(VENV) …"
	@$(PYTHON) $(INSTALL) -r $<
	@touch $@

$(VENV)/test-ready: requirements-dev.txt
	@$(MAKE_VENV)
	@echo "Installing the packages of $< in $(VENV) …"
	@$(PYTHON) $(INSTALL) -r $<
	@touch $@

$(OLD_CLIENT)/ready: tests/clients/mlflow-2.22.txt | $(VENV)/test-ready
	@$(PYTHON) -m venv --clear $(OLD_CLIENT)
	@echo "Installing the packages of $< in $(OLD_CLIENT) …"
	@$(OLD_CLIENT)/bin/python $(INSTALL) -r $<
	@touch $@

define MAKE_VENV
$(PYTHON) -c '' 2>/dev/null && exit 0; \
for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		found=$$name; break; \
	fi; \
done; \
if [ -z "$${found-}" ]; then \
	echo 'Bulkhead needs Python 3.11 or newer, and there is none here: please install it.' >&2; \
	exit 1; \
fi; \
echo "Making $(VENV) with $$($$found --version) …"; \
if ! $$found -c 'import ensurepip, venv' 2>/dev/null; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		package=$$($$found -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		apt-get -qq update && apt-get -qq install --yes "$$package" >/dev/null; \
	else \
		echo "Python's module venv is missing here: please install it (package python3-venv)." >&2; \
		exit 1; \
	fi; \
fi; \
$$found -m venv --clear $(VENV)
endef

browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing Chromium for the browser tests …'; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
			apt-get -qq install --yes --no-install-recommends $(BROWSER_PACKAGES) >/dev/null; \
	else \
		echo 'The browser tests need Chromium: please install it' >&2; \
		echo '(on Debian: apt-get install $(BROWSER_PACKAGES)).' >&2; \
		exit 1; \
	fi
