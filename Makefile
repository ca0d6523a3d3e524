# `make` alone says what there is. Everything goes through setup.sh, which brings a fresh Debian to
# where it works and is done at once when there is nothing to do.
cache := $(or $(GADGETD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gadgetd)
python := '$(cache)/venv/bin/python'
sources := $(wildcard gadgetd emulator tests bench buildroot-package)
ARGS ?=
# Temporary files too stay in the cache; setup.sh makes it.
export TMPDIR := $(cache)/tmp

.PHONY: help setup run screenshot test-image test test-unit test-vm bench-idle lint lock clean

help:
	@echo 'make run         boot the emulated CM4; ARGS="--nvme 3 --slow 4M", ARGS=--help for more'
	@echo 'make test        linters, unit tests, tests on the emulated CM4'
	@echo 'make lint        ruff and mypy;  make test-unit, make test-vm: one part, ARGS for pytest'
	@echo 'make bench-idle  how often the idle daemon wakes up, in two minutes'
	@echo 'make screenshot  HDMI picture and UART log of a boot, in docs/'
	@echo 'make setup       install what is missing (Debian packages, a Python environment)'
	@echo 'make lock        renew requirements-dev.txt from requirements-dev.in'
	@echo 'make image       the folder for rpiboot, with Buildroot; BUILDROOT=DIR uses one that is there'
	@echo 'make image-test  boots it in the emulator'
	@echo 'make clean       empty the cache, $(cache)'

setup:
	@./setup.sh

run: setup
	@$(python) -m emulator run $(ARGS)

screenshot: setup
	@mkdir -p docs
	@$(python) -m emulator run --no-terminal --screenshot docs/hdmi.png --uart-log docs/uart.log $(ARGS)

# What the tests boot, built before them so that its progress shows.
test-image: setup
	@$(python) -m emulator build

test: lint test-image
	@$(python) -m pytest tests/unit tests/vm $(ARGS)

test-unit: setup
	@$(python) -m pytest tests/unit $(ARGS)

test-vm: test-image
	@$(python) -m pytest tests/vm $(ARGS)

bench-idle: test-image
	@$(python) -m bench.idle $(ARGS)

lint: setup
	@start=$$(date +%s) && \
	$(python) -m ruff check $(sources) && \
	$(python) -m ruff format --check $(sources) && \
	$(python) -m mypy && \
	echo "linted in $$(($$(date +%s) - start)) s"

lock: setup
	@$(python) -m venv '$(cache)/lock'
	@'$(cache)/lock/bin/python' -m pip install -q pip-tools
	@'$(cache)/lock/bin/python' -m piptools compile -q --generate-hashes --allow-unsafe --strip-extras --no-header \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	    -o requirements-dev.txt requirements-dev.in

clean:
	@# By name: the cache may have been put where other things are.
	cd '$(cache)' && rm -rf apt base lock log packages pip project run venv *.lock
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

include buildroot-package/image.make
