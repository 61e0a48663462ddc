# make run           the whole system on this machine, with nothing installed; ARGS=--fresh forgets the last run
# make test          unit, contract, model, integration, e2e and fault tests; TESTS=tests/unit for a part, ARGS="-k replay" for pytest
# make test-browser  the pages in a headless Chromium (Debian: apt-get install chromium), with axe-core from npm (needs Node)
# make test-clients  existing clients, and nginx, with a running server (needs Node, Chromium and nginx)
# make fuzz          the long form of the fuzz tests, half an hour or more (docs/fuzzing.md); FUZZ_CASES=10000
# make bench         measures what it costs, against named references; ARGS="relay --repeats 9"
# make check         linters, formatter, types, architecture
# make lock          requirements.lock anew from pyproject.toml, and of it ops/deploy/requirements.lock, the product's part
# make audit         known vulnerabilities of what the locks name (asks osv.dev and npm's registry; needs Node)
# make sbom          chatrelay.cdx.json: what the product is made of, as CycloneDX
# make clean         removes the virtual environment, the state of make run, and caches

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
ARGS :=
JOBS := $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
FUZZ_CASES := 10000
TESTS := tests --ignore=tests/browser --ignore=tests/clients

.DEFAULT_GOAL := run
.PHONY: run test test-browser test-clients fuzz bench check lock audit sbom clean venv

# Killed with make, not left behind by it.
run: $(READY)
	@exec $(BIN)/python -I -S dev/leash.py --signal 15 -- $(BIN)/chatrelay dev $(ARGS)

# Side by side, each process with servers of its own: most tests wait for something most of the time. Whole systems come first: what is
# quick fills the end.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS) $(ARGS)

test-browser: $(READY)
	$(BIN)/python -m pytest tests/browser $(ARGS)

test-clients: $(READY)
	$(BIN)/python -m pytest tests/clients $(ARGS)

fuzz: $(READY)
	CHATRELAY_FUZZ_CASES=$(FUZZ_CASES) $(BIN)/python -m pytest --numprocesses 0 --timeout 0 -s tests/fuzz $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --universal --no-annotate --no-header --quiet -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock --generate-hashes --universal --no-annotate --no-header --quiet -o ops/deploy/requirements.lock

# Whatever cannot be looked up fails it: nothing is passed over.
audit: $(READY)
	$(BIN)/pip-audit --vulnerability-service osv --strict --disable-pip --require-hashes --progress-spinner off -r requirements.lock
	$(BIN)/pip-audit --vulnerability-service osv --strict --disable-pip --require-hashes --progress-spinner off -r dev/bootstrap.lock
	for directory in dev/vendored tests/browser tests/clients; do npm audit --package-lock-only --prefix $$directory || exit 1; done

sbom: $(READY)
	$(BIN)/python -m dev.sbom chatrelay.cdx.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-artifacts
	rm -rf .chatrelay chatrelay.cdx.json

venv: $(READY)

$(READY): requirements.lock dev/bootstrap.lock dev/bootstrap.sh pyproject.toml clients/python/pyproject.toml
	@dev/bootstrap.sh $(VENV)
	@touch $@
