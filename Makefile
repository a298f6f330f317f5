# `make` alone prints what there is. What is done once is remembered by files in .venv/ and build/.

PYTHON ?= python3
BIN := .venv/bin
DIST ?= dist
PREFIX ?= /usr/local
SECONDS ?= 60

# Most tests wait most of the time.
SIDE_BY_SIDE = -n $$(($$(nproc) * 2)) --maxprocesses 8 --dist loadfile

# Names of Debian packages: what the build needs, and what only the tests need, those in a VM more.
BUILD_PACKAGES := clang llvm libbpf-dev libelf-dev zlib1g-dev gcc libc6-dev python3-dev python3-venv make pkg-config
TEST_PACKAGES := libclang-rt-dev libbpf-tools rt-tests iperf3 iproute2 procps vagrant vagrant-libvirt
VM_PACKAGES := qemu-system-x86 busybox-static kmod debian-archive-keyring zstd
# What the box needs, and a libvirt that is started by hand.
BOX_PACKAGES := mmdebstrap qemu-utils fdisk e2fsprogs openssh-client rsync debian-archive-keyring lz4
VAGRANT_PACKAGES := libvirt-daemon libvirt-clients dnsmasq-base iptables

EXTENSION_SOURCES := native/build.py $(wildcard native/*.[ch]) $(wildcard bpf/*.h)
C_FILES = $(wildcard $(shell git ls-files --cached --others --exclude-standard '*.c' '*.h'))

BPF_ARCH := $(subst x86_64,x86,$(subst aarch64,arm64,$(shell uname -m)))
BPF_CFLAGS = -O2 -g -target bpf -mcpu=v3 -ffreestanding -Wall -Werror -I. -D__TARGET_ARCH_$(BPF_ARCH)
# Debian keeps <asm/*.h> here. Asked when needed: at first gcc is perhaps not there.
BPF_CFLAGS += -idirafter /usr/include/$(shell gcc -print-multiarch 2>/dev/null)

# What `make install` makes.
HOME_FOLDER = $(DESTDIR)/opt/slackwater
CONFIGURATION = $(DESTDIR)/etc/slackwater/slackwater.toml
UNIT = $(DESTDIR)/etc/systemd/system/slackwater.service
# A running systemd, which is to know of it; it is none of ours with DESTDIR.
SYSTEMD = $(if $(DESTDIR),,$(wildcard /run/systemd/system))

# What a wheel is made of.
PACKAGE_SOURCES := pyproject.toml setup.py requirements.txt README.md LICENSE LICENSE.GPL-2.0 NOTICE $(EXTENSION_SOURCES) \
	$(wildcard agent/*.py agent/*/*.py native/*.py rdt/*.py bpf/*.c)

# Programs that only the tests run and that the host does not have.
export PATH := $(PATH):$(CURDIR)/build/tools/usr/bin

.DELETE_ON_ERROR:
.NOTPARALLEL: # two would want apt at once
.PHONY: help setup run demo test test-side-by-side test-alone test-guests test-vm test-systemd test-vagrant vm box check
.PHONY: fuzz bench wheel bundle install uninstall clean build-packages test-packages vm-packages box-packages vagrant-packages dev
.DEFAULT_GOAL := help

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: build/native native/slackwater.bpf.o native/net_class.bpf.o ## system packages, .venv, native/ and bpf/

run: setup ## set up and run the agent in the foreground (ARGS= its options)
	$(BIN)/slackwater run $(ARGS)

test: setup .venv/.requirements-dev ## set up and run all tests: here, and a short set on other kernels in a VM (ARGS= of pytest: only here)
	@$(call try,test-packages)
	@$(call try,build/prometheus)
	@$(if $(ARGS),$(BIN)/pytest $(ARGS),failed=0; times=; \
	for part in test-side-by-side test-alone test-guests; do begin=$$(date +%s); \
		$(MAKE) --no-print-directory $$part || failed=1; times="$$times $$part $$(($$(date +%s) - begin)) s "; done; \
	echo "time:$$times"; exit $$failed)

test-side-by-side: setup .venv/.requirements-dev
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not alone"

test-alone: setup .venv/.requirements-dev
	$(BIN)/pytest -m alone

test-guests: setup .venv/.requirements-dev
	@$(call try,vm-packages)
	$(BIN)/python -m tests.vm short

# $(call try,TARGETS): what only some tests need. Without a network or root the rest is run, and what was not is said.
try = $(MAKE) --no-print-directory $(1) || echo '!!! not had: $(1): what needs it is NOT RUN'

test-vm: setup dev vm-packages ## run the kernel tests on other kernels in a VM (KERNEL= one, T= which, as for pytest, MACHINE= one with RDT, or all)
	$(if $(KERNEL)$(T)$(MACHINE),,SLACKWATER_VM_TESTS=1 $(BIN)/pytest tests/vm/test_guest.py)
	$(BIN)/python -m tests.vm test $(KERNEL:%=--kernel %) $(MACHINE:%=--machine %) $(if $(T),-- $(T))

test-systemd: setup dev vm-packages box-packages ## install the agent in a VM with systemd and drive the service
	SLACKWATER_VM_TESTS=1 $(BIN)/pytest tests/vm/test_systemd.py tests/vm/test_systemd_cache.py $(ARGS)

test-vagrant: setup dev vm-packages box-packages vagrant-packages ## from vagrant up to vagrant destroy, emulated, by a libvirt of its own
	SLACKWATER_VAGRANT_TESTS=1 $(BIN)/pytest tests/vm/test_vagrant.py $(ARGS)

box: setup box-packages ## a Debian box for Vagrant and libvirt; its path is the last line
	@$(BIN)/python -m tests.vm.box

vm: setup vm-packages ## a root shell on another kernel, with this machine's files read-only (KERNEL=, MACHINE=)
	$(BIN)/python -m tests.vm shell $(MACHINE:%=--machine %) $(KERNEL)

demo: setup dev ## a service beside batch work, without the agent and with it: two minutes, table and figures (ARGS= its options)
	$(BIN)/python -m demo $(ARGS)

check: dev ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

fuzz: setup test-packages ## fuzz ring decoder, group table and sketch for SECONDS=60 each
	tests/native/fuzz.sh $(SECONDS)

bench: ## list the benchmarks
	@awk '/^(""|\/\* |# )/ { gsub(/"""|^[#\/* ]+| *\*\/$$/, ""); printf "%-36s %s\n", FILENAME, $$0; nextfile }' \
		$(wildcard benchmarks/*.py benchmarks/*.c benchmarks/*.sh)

wheel: setup .venv/.requirements-dev ## a wheel in dist/ that runs on a host without compiler, kernel headers or libbpf
	rm -rf build/lib build/bdist.* build/wheel $(DIST)/slackwater-*.whl
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	PATH=$(CURDIR)/$(BIN):$$PATH auditwheel repair --wheel-dir $(DIST) build/wheel/*.whl

bundle: $(DIST)/.bundle ## in dist/ all that `make install` needs where there is no network: our wheel and those it depends on

$(DIST)/.bundle: $(PACKAGE_SOURCES)
	$(MAKE) wheel
	rm -f $(DIST)/pip-*.whl
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest $(DIST) -r requirements.txt pip
	touch $@

install: $(DIST)/.bundle ## as root: into /opt/slackwater, with a configuration and a systemd unit (DESTDIR=, PREFIX=)
	$(PYTHON) -m venv --clear --without-pip $(HOME_FOLDER)
	PYTHONPATH=$$(echo $(DIST)/pip-*.whl) $(HOME_FOLDER)/bin/python -m pip install \
		--quiet --disable-pip-version-check --root-user-action ignore --no-compile \
		--no-index --find-links $(DIST) --constraint requirements.txt slackwater
	$(HOME_FOLDER)/bin/python -m compileall -q -j 0 -x /tests/ $(DESTDIR:%=-s %) $(HOME_FOLDER)
	$(if $(DESTDIR),grep -rlIF $(DESTDIR) $(HOME_FOLDER)/bin $(HOME_FOLDER)/pyvenv.cfg | xargs sed -i 's#$(DESTDIR)##g')
	mkdir -p $(DESTDIR)$(PREFIX)/bin
	ln -sfn /opt/slackwater/bin/slackwater $(DESTDIR)$(PREFIX)/bin/slackwater
	[ -e $(CONFIGURATION) ] || install -D -m 644 deploy/slackwater.toml $(CONFIGURATION)
	install -D -m 644 deploy/systemd/slackwater.service $(UNIT)
	$(if $(SYSTEMD),systemctl daemon-reload)
	$(if $(SYSTEMD),@echo 'installed; now: systemctl enable slackwater && systemctl restart slackwater')

uninstall: ## as root: what `make install` made, and what the service kept; a configuration that was changed stays
	$(if $(SYSTEMD),! [ -e $(UNIT) ] || systemctl --quiet disable --now slackwater)
	rm -rf $(HOME_FOLDER) $(DESTDIR)$(PREFIX)/bin/slackwater $(UNIT) $(DESTDIR)/run/slackwater $(DESTDIR)/var/lib/slackwater
	@if cmp -s deploy/slackwater.toml $(CONFIGURATION); then rm -r $(dir $(CONFIGURATION)); \
	elif [ -e $(CONFIGURATION) ]; then echo 'kept, since it was changed: $(CONFIGURATION)'; fi
	$(if $(SYSTEMD),systemctl daemon-reload)

clean: ## remove what was built; .venv stays
	rm -rf build dist native/_slackwater*.so native/*.bpf.o .venv/.installed

# $(call need,PACKAGES): install those of Debian's packages that are missing.
define need
@command -v dpkg-query >/dev/null || { echo 'not a Debian host; needed: what these packages hold: $(1)'; exit 0; }; \
missing=; installed=" $$(dpkg-query --show --showformat '$${db:Status-Status}:$${Package} ' $(1) 2>/dev/null) "; \
for package in $(1); do \
	case "$$installed" in *" installed:$$package "*) ;; *) missing="$$missing $$package" ;; esac; \
done; \
[ -n "$$missing" ] || exit 0; \
install="apt-get install --yes --no-install-recommends$$missing"; \
[ "$$(id -u)" = 0 ] || { echo "packages are missing; as root: apt-get update && $$install"; exit 1; }; \
export DEBIAN_FRONTEND=noninteractive; set -x; apt-get -qq update && $$install
endef

build-packages:
	$(call need,$(BUILD_PACKAGES))

test-packages:
	$(call need,$(TEST_PACKAGES))

vm-packages:
	$(call need,$(VM_PACKAGES))

box-packages:
	$(call need,$(BOX_PACKAGES))

vagrant-packages:
	$(call need,$(VAGRANT_PACKAGES))

dev: .venv/.requirements-dev test-packages

$(BIN)/python: | build-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed; $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv

.venv/.requirements: requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

.venv/.requirements-dev: requirements-dev.txt .venv/.requirements
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(BIN)/pip check
	touch $@

.venv/.installed: pyproject.toml setup.py $(wildcard */__init__.py) .venv/.requirements
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The installation just above has built it already if it had to be done.
build/native: $(EXTENSION_SOURCES) .venv/.installed
	mkdir -p build
	$(BIN)/python -m native.build
	touch $@

# Without DWARF, which no one reads at run time; BTF stays.
native/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) | build-packages
	mkdir -p build
	clang $(BPF_CFLAGS) -c $< -o build/$*.bpf.o
	llvm-strip -g build/$*.bpf.o -o $@

# Installed, Debian's package would enable and start a server on this host: only its programs are unpacked.
build/prometheus: | build-packages
	mkdir -p build/tools
	command -v promtool >/dev/null && command -v prometheus >/dev/null || { cd build/tools && \
		apt-get -qq update && apt-get download -qq -o APT::Sandbox::User=root prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb; }
	touch $@
