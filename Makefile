# SPDX-License-Identifier: GPL-2.0-or-later
#
# The verbs of the project: make help. Rules of the parts are in mk/.
MAKEFLAGS += --no-builtin-rules
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
.DELETE_ON_ERROR:
ifndef V
.SILENT:
endif
SHELL := /bin/bash

.PHONY: help
help:
	@echo 'make demo         a container moves between VMs with its connections; build/demo/report.json'
	@echo 'make check        all tests: unit, simulator, fuzzers, real guests'
	@echo 'make check-full   the same and what takes long: more failures of moves, VMs that die, many QPs'
	@echo 'make all          build everything, the guest image included'
	@echo 'make deps         install the distribution packages that are missing'
	@echo 'make check-unit   unit tests, sanitized'
	@echo 'make check-glue   the device in QEMU, without a guest'
	@echo 'make check-sim    simulator, SEEDS=10000'
	@echo 'make sim          more of them: SEEDS=1000000 FIRST=10001; shows progress, can be interrupted'
	@echo 'make check-fuzz   fuzzers, 60 s each: TARGET=packets SECONDS=10'
	@echo 'make fuzz         one of them for long: TARGET=packets SECONDS=3600'
	@echo 'make check-vm     tests in real guests'
	@echo 'make bench        figures: the core, perftest against Soft-RoCE, moves against plain CRIU; half an hour'
	@echo 'make check-static licences, layers, links and tables of the documents, what configure says'
	@echo 'make module-cloud the kernel module for the cloud flavour of the kernel: compiles it'
	@echo 'make install-guest DESTDIR=…: driver, provider and CRIU plugin into an image of your own'
	@echo 'make docs         fill the tables of docs/spec from the headers'
	@echo 'make lint         checkpatch, sparse, clang-format'
	@echo 'make clean        remove build/ (the cache stays)'
	@echo 'V=1 shows the commands; ./configure --help for options'

.PHONY: deps
deps:
	@scripts/install-deps

B := build

# Any other goal alone: first the packages, then the configuration. It is looked at
# again when QEMU has been upgraded; what depends on it is made again if it changed.
ifneq ($(filter-out help clean deps,$(or $(MAKECMDGOALS),help)),)
include $(B)/config.mk
$(B)/config.mk: $(B)/configured ;
$(B)/configured: configure scripts/install-deps $(wildcard /var/lib/dpkg/info/qemu-system-x86.list)
	@scripts/install-deps
	@mkdir -p $(B)
	@./configure --again > $(B)/configure.log
endif

CACHE_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/godwit
export CCACHE_DIR ?= $(CACHE_DIR)/ccache
OPTIMIZE ?= -O2 -g

.PHONY: all clean
all: # filled by mk/*.mk

clean:
	rm -rf $(B)

include mk/core.mk
include mk/qemu.mk
include mk/guest.mk
include mk/lab.mk
include mk/fuzz.mk
include mk/tests.mk
include mk/bench.mk
include mk/docs.mk
include mk/lint.mk
