# `make` alone says what there is. Everything goes through setup.sh, which brings a fresh Debian to
# where it works and is done at once when there is nothing to do.
cache := $(or $(GADGETD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gadgetd)
python := '$(cache)/venv/bin/python'
sources := $(wildcard gadgetd bootimg emulator tests bench buildroot-package)
# What a person writes behind ARGS= and BOARD= goes to the programs in the environment, as it was
# written. In a recipe it would be this PC's shell that runs what stands behind a `;`, and exported
# under its own name make would first look for $(shell ...) in it.
export GADGETD_ARGS := $(value ARGS)
export GADGETD_BOARD := $(value BOARD)
unexport ARGS BOARD
with_args := $(python) -m emulator.arguments
# In two processes, since a board keeps one core busy; ARGS="-n 0" runs one test after the other.
pytest := $(python) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# $(call installed,NAME,WHAT): what requirements-NAME.txt names, which only a few targets need.
installed = cmp -s requirements-$(1).txt '$(cache)/venv/.$(1)' || { \
	echo '  installing $(2)'; \
	PIP_CACHE_DIR='$(cache)/pip' $(python) -m pip install -q --disable-pip-version-check \
	    --require-hashes -r requirements-$(1).txt && \
	cp requirements-$(1).txt '$(cache)/venv/.$(1)'; }
# Temporary files too stay in the cache, as do those of the linters; setup.sh makes it.
export TMPDIR := $(cache)/tmp
export RUFF_CACHE_DIR := $(cache)/lint/ruff
export MYPY_CACHE_DIR := $(cache)/lint/mypy

.PHONY: help setup run host screenshot test-image test test-unit test-vm soak endurance mutants mutants-setup rooms board-report bench bench-quick bench-idle bench-setup lint lock clean

help:
	@echo 'make run         boot the emulated CM4; ARGS="--nvme 3 --slow 4M", ARGS=--help for more'
	@echo 'make host        be the USB host of the board that runs; ARGS=eject, ARGS=--help, BOARD=...'
	@echo 'make test        linters, unit tests, tests on the emulated CM4'
	@echo 'make lint        ruff, mypy, who imports whom, dead code, shellcheck, licences;  make test-unit, make test-vm: one part, ARGS for pytest'
	@echo 'make soak        the tests with chance in them, over and over; ARGS="--minutes 5"'
	@echo 'make endurance   thousands of plugs, hot-plugs, reloads in the fake, a table and a picture'
	@echo 'make mutants     changes the code and looks which tests notice; hours, goes on where it was; ARGS=export/drive'
	@echo 'make rooms       how many floors of imports, modules and lines gadgetd has'
	@echo 'make board-report ARGS="--board /dev/ttyUSB0": what a real board does, written down'
	@echo 'make bench       gadgetd beside the script it replaces; renews docs/benchmarks.md'
	@echo 'make bench-quick the same in five minutes, to read only; ARGS="--only boot" for one figure'
	@echo 'make bench-idle  what the idle daemon costs, in three minutes'
	@echo 'make screenshot  UART log of a boot and pictures of HDMI in each state, in docs/'
	@echo 'make setup       install what is missing (Debian packages, a Python environment)'
	@echo 'make lock        renew the requirements-*.txt from the requirements-*.in'
	@echo 'make image       the folder for rpiboot, with Buildroot; BUILDROOT=DIR, CONFIG=my.yaml'
	@echo 'make release     what a release consists of, from what make image has built'
	@echo 'make image-test  boots in the emulator what make image has built'
	@echo 'make clean       empty the cache, $(cache), the built image too'

setup:
	@./setup.sh

run: setup
	@$(with_args) $(python) -m emulator run

host: setup
	@$(python) -m emulator host --from-make

screenshot: setup
	@mkdir -p docs/hdmi
	@$(with_args) $(python) -m emulator run --no-terminal --uart-log docs/uart.log
	@$(python) -m emulator pictures docs/hdmi

# What bench boots, built before it so that its progress shows.
test-image: setup
	@$(python) -m emulator build

# What the tests boot, the PC too, is built while the unit tests run: a test that needs it waits.
test: lint
	@$(python) -m emulator build --tests & \
	    $(with_args) $(pytest) tests/unit tests/vm; status=$$?; wait; exit $$status

test-unit: setup
	@$(with_args) $(pytest) tests/unit

test-vm: setup
	@$(python) -m emulator build --tests
	@$(with_args) $(pytest) tests/vm

# Not part of make test: it goes on for as long as it is told to.
soak: setup
	@$(call installed,fuzz,what leads the fuzzing)
	@$(with_args) $(python) -m tests.soak

endurance: bench-setup
	@$(with_args) $(python) -m tests.soak.endurance

# Not part of make test either: some thousand changes, and the tests of each.
mutants: mutants-setup
	@export GADGETD_CACHE='$(cache)'; $(with_args) $(python) -m tests.mutants

mutants-setup: setup
	@$(call installed,mutants,what changes the code)

rooms: setup
	@$(python) -m tests.rooms

# The bench list of docs/image.md on a real board, with a person.
board-report: setup
	@$(with_args) $(python) -m tests.bench

bench: test-image bench-setup
	@$(with_args) $(python) -m bench

bench-quick: test-image
	@$(with_args) $(python) -m bench --quick

bench-idle: test-image
	@$(with_args) $(python) -m bench --only idle

# What draws the pictures is large, and nothing else needs it.
bench-setup: setup
	@$(call installed,bench,what draws the pictures)

lint: setup
	@start=$$(date +%s) && \
	$(python) -m ruff check $(sources) && \
	$(python) -m ruff format --check $(sources) && \
	$(python) -m mypy && \
	'$(cache)/venv/bin/lint-imports' --no-cache && \
	$(python) -m vulture && \
	$(python) -m tests.lint_workflows && \
	$(python) -m tests.lint_licences && \
	echo "linted in $$(($$(date +%s) - start)) s"

lock: setup
	@$(python) -m venv '$(cache)/lock'
	@'$(cache)/lock/bin/python' -m pip install -q pip-tools
	@for each in dev bench fuzz mutants; do \
	    '$(cache)/lock/bin/python' -m piptools compile -q --generate-hashes --allow-unsafe --strip-extras --no-header \
	        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	        -o requirements-$$each.txt requirements-$$each.in || exit; done

clean:
	@# By name: the cache may have been put where other things are.
	@[ ! -d '$(cache)' ] || { echo 'emptying $(cache)'; cd '$(cache)' && \
	    rm -rf apt apt-backports base bench image lint lock log mutants packages pc pip project qemu run tmp venv *.lock; }
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

include buildroot-package/image.make
