# SPDX-License-Identifier: GPL-2.0-or-later
#
# The verbs of the project: make help. Rules of the parts are in mk/.
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
SHELL := /bin/bash

.PHONY: help
help:
	@echo 'make demo         a container moves between VMs with its connections; build/demo/report.json'
	@echo 'make check        all tests that take minutes'
	@echo 'make all          build everything, the guest image included'
	@echo 'make check-unit   unit tests, sanitized'
	@echo 'make check-sim    simulator, SEEDS=1000'
	@echo 'make check-vm     tests in real guests'
	@echo 'make clean        remove build/ (the cache stays)'
	@echo './configure --help for options'

# Goals that need nothing before them: packages and configuration come first.
-include build/config.mk
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),help)),)
build/config.mk: configure scripts/install-deps
	@scripts/install-deps
	@./configure > build-configure.log || { cat build-configure.log; rm -f build-configure.log; exit 1; }
	@mkdir -p build && mv build-configure.log build/configure.log
endif

B := build
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
include mk/tests.mk
