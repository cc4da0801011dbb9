# The whole vocabulary: make demo | test | bench | check | peers | scale | docs | venv | clean
#
# Each target makes the environment it needs in .venv and is the only command: a fresh machine needs Python >= 3.11
# and make. `make test ARGS="--numprocesses 0 -k events"` runs some tests, one after the other. PYTHON=... chooses the
# interpreter, VENV=... the environment's directory, ARGS=... passes arguments on.

VENV ?= .venv
ARGS ?=

# The first interpreter that is new enough and can make an environment.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

# What is counted and not timed, for `make bench`; `make test` runs it too.
EXACT := tests/system/test_shm_channel.py::test_a_channel_takes_three_descriptors_a_side \
	tests/system/test_life.py::test_500_heros_have_no_thread_and_no_descriptor_more_than_one \
	tests/system/test_exact.py

.PHONY: demo test bench check peers scale docs venv clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/heros demo $(ARGS)

test: $(VENV)/.installed-test .venv-original/.installed .venv-dropin/.installed
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal $(ARGS)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m pytest --quiet --benchmark-quiet $(EXACT) benchmarks $(ARGS)

check: $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

peers: $(VENV)/.installed-peers .venv-original/.installed
	$(BIN)/python -m benchmarks.peers.run $(ARGS)

scale: $(VENV)/.installed-peers
	$(BIN)/python -m benchmarks.scale $(ARGS)

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env docs docs/_build/html
	@echo "docs/_build/html/index.html"

venv: $(VENV)/.installed-dev

clean:
	rm -rf "$(VENV)" .venv-original .venv-dropin build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment: installed anew only when pyproject.toml has changed -------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "heros needs Python >= 3.11 with its venv module (Debian: apt install python3-venv)." \
	"Install it, or say where it is: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Making the environment $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv "$(VENV)"

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing heros into $(VENV)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing heros and what '$*' needs into $(VENV)"
	@$(PIP) install --editable ".[$*]"
	@touch $@

# The original HEROS, as a peer. It has the same import name.
.venv-original/.installed: | $(BIN)/python
	@echo "Installing the original heros into .venv-original"
	@$(BIN)/python -m venv --clear .venv-original
	@.venv-original/bin/python -m pip --quiet --disable-pip-version-check --no-input install heros==2026.2.2
	@touch $@

# Programs that build on heros, as they are published, with this package in the place of the original.
.venv-dropin/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing heros, BOSS, herostools and herosdevices into .venv-dropin"
	@$(BIN)/python -m venv --clear .venv-dropin
	@.venv-dropin/bin/python -m pip --quiet --disable-pip-version-check --no-input install --editable . \
		heros-boss==2026.0.4 herostools==2026.1.1 herosdevices==2026.7.3
	@touch $@
