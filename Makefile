# bhyvepy: two targets do everything on a fresh Debian machine, `make run` and
# `make test`. See `make help`.

VENV	:= .venv
BIN	:= $(VENV)/bin
PY	:= $(BIN)/python
CSRC	:= $(shell find vmmcore -name '*.[ch]' -o -name '*.inc' -o -name '*.def' -o -name '*.decode')
CFILES	:= $(shell find vmmcore guests tests bench -name '*.[ch]' -o -name '*.inc' 2>/dev/null)

# cmake, ninja, ruff and the three commands are those of the environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help run test test-long test-asan soak lint format bench conformance mutants fuzz clean
.DELETE_ON_ERROR:

help:
	@echo "make run        set up, fetch a Debian arm64 kernel and boot it to a shell"
	@echo "make test       the whole test suite"
	@echo "make test-long  the suite and the campaigns that take hours"
	@echo "make test-asan  the core tests with AddressSanitizer and UBSan"
	@echo "make soak [SOAK_MINUTES=30]  four vCPUs under load on that core"
	@echo "make lint       ruff, mypy, clang-format, mandoc"
	@echo "make format     let ruff and clang-format lay the sources out"
	@echo "make bench      the same guests on bhyvepy and on qemu-system-aarch64"
	@echo "make conformance [SMALL=1]  the instruction set against qemu-aarch64 and SoftFloat"
	@echo "make mutants    missing guards (Python, C) and seeded bugs in the PE: are they noticed?"
	@echo "make fuzz       hostile input for the device models and the loaders"
	@echo "make clean      remove what was built"
	@echo
	@echo "OFFLINE=1 make test skips what needs kernels from the package servers."

# The virtual environment with the core built into it.
$(VENV)/stamp: pyproject.toml vmmcore/CMakeLists.txt vmmcore/ffi_build.py $(CSRC)
	@scripts/packages run
	test -x $(PY) || python3 -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check 'scikit-build-core>=0.11' 'cffi>=2' 'cmake>=3.26' ninja
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e .
	touch $@

$(VENV)/test-stamp: $(VENV)/stamp pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[test]'
	touch $@

run: $(VENV)/stamp
	$(PY) -m bhyvepy.guests.demo

test: $(VENV)/test-stamp
	@scripts/packages test
	$(BIN)/pytest -m "not long"

test-long: $(VENV)/test-stamp
	@scripts/packages test
	$(BIN)/pytest

test-asan: $(VENV)/test-stamp
	@scripts/packages test
	scripts/test-asan $(PY)

soak: $(VENV)/test-stamp
	@scripts/packages test
	scripts/test-asan $(PY) -s tests/functional/test_soak.py

lint: $(VENV)/test-stamp
	@scripts/packages lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	clang-format --dry-run --Werror $(CFILES)
	mandoc -T lint -W warning man/*.[358]

format: $(VENV)/test-stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	clang-format -i $(CFILES)

bench: $(VENV)/test-stamp
	@scripts/packages bench
	$(PY) bench/bench.py

conformance: $(VENV)/test-stamp
	@scripts/packages test
	$(PY) tests/conformance/conf_run.py all --size $(if $(SMALL),small,full)

mutants: $(VENV)/test-stamp
	@scripts/packages test
	$(PY) tests/mutants/guards.py
	$(PY) tests/conformance/mutants.py

fuzz: $(VENV)/test-stamp
	FUZZ_STEPS=$${FUZZ_STEPS:-2000000} $(BIN)/pytest -m fuzz tests/fuzz

clean:
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
