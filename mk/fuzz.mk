# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bad input, made by libFuzzer: one program per tests/fuzz/<target>.cc. HACKING.md says how to
# replay what they find.

F := $(B)/fuzz
FUZZ_CXX := $(CCACHE) clang++
FUZZ_SANITIZE := -O2 -g -fsanitize=address,undefined -fno-sanitize-recover=all $(FUZZ_MORE)
# What the fuzzer shall find its way through; the machine around the device is none of that.
FUZZ_GUIDED := -fsanitize=fuzzer-no-link
FUZZ_TARGETS := packets mmio commands state image
FUZZ_BINARIES := $(FUZZ_TARGETS:%=$(F)/%)

FUZZ_CORE_OBJECTS := $(CORE_SOURCES:%.cc=$(F)/obj/%.o)
FUZZ_SUPPORT_OBJECTS := $(patsubst %.cc,$(F)/obj/%.o,$(wildcard tests/support/*.cc) \
	tests/fuzz/scene.cc)
FUZZ_PLUGIN_OBJECTS := $(addprefix $(F)/obj/,criu-plugin/image.o criu-plugin/uverbs.o \
	qemu-device/wire/icrc.o tests/fuzz/image.o)
FUZZ_OBJECTS := $(FUZZ_CORE_OBJECTS) $(FUZZ_SUPPORT_OBJECTS) $(FUZZ_PLUGIN_OBJECTS) \
	$(FUZZ_TARGETS:%=$(F)/obj/tests/fuzz/%.o)

$(F)/obj/%.o: %.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX fuzz $<'
	$(FUZZ_CXX) $(CXXFLAGS_COMMON) $(FUZZ_SANITIZE) $(FUZZ_GUIDED) $(CORE_INCLUDES) -Itests \
	  $(FUZZ_INCLUDES) -c $< -o $@
$(FUZZ_SUPPORT_OBJECTS): FUZZ_GUIDED =
$(FUZZ_PLUGIN_OBJECTS): FUZZ_INCLUDES = $(PLUGIN_INCLUDES)
$(FUZZ_PLUGIN_OBJECTS): $(B)/plugin/godwit.pb.h
# The generated code is looked into as well.
$(F)/obj/godwit.pb.o: $(B)/plugin/godwit.pb.cc
	@mkdir -p $(@D)
	@echo '  CXX fuzz $<'
	$(FUZZ_CXX) -std=c++20 $(FUZZ_SANITIZE) $(FUZZ_GUIDED) -I$(B)/plugin -c $< -o $@

$(F)/image: $(FUZZ_PLUGIN_OBJECTS) $(F)/obj/godwit.pb.o
	@echo '  LINK     $@'
	clang++ -fsanitize=fuzzer,address,undefined $(FUZZ_MORE) -o $@ $^ $(CORE_LIBS) -lprotobuf-lite
$(filter-out $(F)/image,$(FUZZ_BINARIES)): $(F)/%: $(F)/obj/tests/fuzz/%.o $(FUZZ_SUPPORT_OBJECTS) $(FUZZ_CORE_OBJECTS)
	@echo '  LINK     $@'
	clang++ -fsanitize=fuzzer,address,undefined $(FUZZ_MORE) -o $@ $^ $(CORE_LIBS)

-include $(FUZZ_OBJECTS:.o=.d)

# For scripts/run-tests: the fuzzers as one program, each of them a test.
$(B)/tests/fuzz: $(FUZZ_BINARIES)
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec scripts/fuzz "$$@"\n' > $@ && chmod +x $@

# The same device in QEMU's own fuzzer, which knows nothing of it but its BARs.
$(F)/obj/qemu-device/segment/segment.o: qemu-device/segment/segment.c $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CC fuzz  $<'
	clang -std=c11 $(FUZZ_SANITIZE) $(FUZZ_GUIDED) -Wall -Wextra -Werror -c $< -o $@
$(F)/qemu: scripts/qemu-fuzz scripts/qemu-source $(FUZZ_CORE_OBJECTS) $(F)/obj/qemu-device/segment/segment.o \
  $(wildcard qemu-device/qemu/* qemu-device/segment/* qemu-device/include/* abi/*)
	@echo '  QEMU     $@'
	@scripts/qemu-fuzz --cache-dir '$(CACHE_DIR)' --qemu-source '$(QEMU_SOURCE)' \
	  --core-objects $(F)/obj/qemu-device --output $@

SECONDS ?= 60
.PHONY: check-fuzz fuzz fuzz-corpus fuzz-coverage
check-fuzz: $(B)/tests/fuzz $(if $(filter qemu,$(TARGET)),$(F)/qemu)
	@GODWIT_FUZZ_SECONDS=$(SECONDS) scripts/run-tests --filter '$(if $(TARGET),*.$(TARGET),-Full*)' $<

# One for long; the interrupt key ends it.
fuzz: $(F)/$(or $(TARGET),packets)
	@scripts/fuzz --seconds $(SECONDS) $(or $(TARGET),packets)

# What was found so far, minimized, becomes the corpus in the tree.
fuzz-corpus: $(FUZZ_BINARIES)
	@scripts/fuzz --merge $(TARGET)

# What the corpora reach, by folder and file: a second build.
fuzz-coverage:
	@$(MAKE) F=$(B)/fuzz-coverage FUZZ_MORE='-fprofile-instr-generate -fcoverage-mapping' \
	  $(FUZZ_TARGETS:%=$(B)/fuzz-coverage/%)
	@scripts/fuzz-coverage $(FUZZ_TARGETS)
