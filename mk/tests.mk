# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tests: unit and simulator here, sanitized; vm in real guests.

SEEDS ?= 10000

UNIT_OBJECTS := $(patsubst %.cc,$(B)/san/%.o,$(wildcard tests/unit/*.cc tests/support/*.cc))
SIM_OBJECTS := $(patsubst %.cc,$(B)/san/%.o,$(wildcard tests/sim/*.cc tests/support/*.cc))
VM_OBJECTS := $(patsubst %.cc,$(B)/obj/%.o,$(wildcard tests/vm/*.cc))
PLUGIN_INCLUDES := -Iabi -Iguest-driver/uapi -I$(B)/plugin -Icriu-plugin

$(B)/san/tests/%.o: tests/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX san  $<'
	$(CXX) $(CXXFLAGS_COMMON) $(SANITIZE) $(CORE_INCLUDES) -Itests -c $< -o $@

$(B)/obj/tests/vm/%.o: tests/vm/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) $(CXXFLAGS_COMMON) $(OPTIMIZE) -Ilab -I. $(LAB_FLAGS) $(PLUGIN_INCLUDES) \
	  -DGODWIT_CHECK_ICRC='"$(abspath tests/vm/check-icrc)"' \
	  -DGODWIT_SOURCE='"$(CURDIR)"' -DGODWIT_CACHE='"$(CACHE_DIR)"' -DGODWIT_GUIDES='"$(abspath docs/guide)"' -c $< -o $@
$(VM_OBJECTS): $(B)/plugin/godwit.pb.h

$(B)/tests/unit: $(UNIT_OBJECTS) $(CORE_SAN_OBJECTS) $(B)/san/segment.o
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -fsanitize=address,undefined -o $@ $^ -lgtest -lgtest_main $(CORE_LIBS) -lpthread

$(B)/tests/sim: $(SIM_OBJECTS) $(CORE_SAN_OBJECTS)
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -fsanitize=address,undefined -o $@ $^ -lgtest -lgtest_main $(CORE_LIBS) -lpthread

# Tests of checkpoints read and damage images, with the plugin's own code.
VM_PLUGIN_OBJECTS := $(addprefix $(B)/plugin/,image.o uverbs.o godwit.pb.o)
$(B)/tests/vm: $(VM_OBJECTS) $(VM_PLUGIN_OBJECTS) $(B)/lib/libgodwit-lab.a
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -o $@ $^ -lgtest $(LAB_LIBS) -lprotobuf-lite

# The checkpoint plugin's image, on the host.
PLUGIN_TEST_OBJECTS := $(patsubst %.cc,$(B)/san/%.o,$(wildcard tests/plugin/*.cc) \
	criu-plugin/image.cc criu-plugin/uverbs.cc)
$(PLUGIN_TEST_OBJECTS): $(B)/san/%.o: %.cc $(B)/plugin/godwit.pb.h $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX san  $<'
	$(CXX) $(CXXFLAGS_COMMON) $(SANITIZE) $(PLUGIN_INCLUDES) -Itests -c $< -o $@
$(B)/tests/plugin: $(PLUGIN_TEST_OBJECTS) $(B)/plugin/godwit.pb.o
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -fsanitize=address,undefined -o $@ $^ -lgtest -lgtest_main -lprotobuf-lite -lpthread

# The glue: QEMU without a running CPU, driven over qtest.
GLUE_TEST_OBJECTS := $(patsubst %.cc,$(B)/obj/%.o,$(wildcard tests/glue/*.cc))
$(B)/obj/tests/glue/%.o: tests/glue/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) $(CXXFLAGS_COMMON) $(OPTIMIZE) -Iabi -Itests -Iqemu-device -c $< -o $@
$(B)/tests/glue: $(GLUE_TEST_OBJECTS) $(B)/obj/segment.o $(NIC)
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -o $@ $(GLUE_TEST_OBJECTS) $(B)/obj/segment.o -lgtest -lgtest_main -lpthread

-include $(GLUE_TEST_OBJECTS:.o=.d) $(PLUGIN_TEST_OBJECTS:.o=.d)
-include $(UNIT_OBJECTS:.o=.d) $(SIM_OBJECTS:.o=.d) $(VM_OBJECTS:.o=.d)

CHECKS := $(B)/tests/unit $(B)/tests/plugin $(B)/tests/glue $(B)/tests/fuzz
ifneq ($(wildcard tests/sim/*.cc),)
CHECKS += $(B)/tests/sim
endif
ifneq ($(wildcard tests/vm/*.cc),)
CHECKS += $(B)/tests/vm
endif

# What takes long has a name that begins with Full.
.PHONY: check check-full check-unit check-glue check-sim check-vm check-static
check: all $(CHECKS) check-static
	@GODWIT_SIM_SEEDS=$(SEEDS) scripts/run-tests --filter '-Full*' $(CHECKS)
check-full: all $(CHECKS) $(B)/fuzz/qemu check-static
	@GODWIT_TEST_SECONDS=7200 GODWIT_SIM_SEEDS=$(SEEDS) scripts/run-tests $(CHECKS)

check-static:
	@scripts/check-includes
	@scripts/check-spdx
	@scripts/check-links
	@scripts/render-docs --check
	@tests/setup
ifneq ($(RDMA_CORE_SOURCE),)
	@guest-driver/provider/check-layout '$(RDMA_CORE_SOURCE)'
endif

check-unit: $(B)/tests/unit $(B)/tests/plugin
	@scripts/run-tests $^
check-glue: $(B)/tests/glue
	@scripts/run-tests $<
check-sim: $(B)/tests/sim
	@GODWIT_SIM_SEEDS=$(SEEDS) scripts/run-tests $<

# As many seeds as one likes; the interrupt key ends it, with what has been done so far.
FIRST ?= 1
.PHONY: sim
sim: $(B)/tests/sim
	@$< --gtest_filter=Simulation.Seeds --seeds=$(SEEDS) --first=$(FIRST) --progress

check-vm: all $(B)/tests/vm
	@scripts/run-tests --filter '-Full*' $(B)/tests/vm

# ---- demo: exit code 0 only if everything was verified
.PHONY: demo
demo: all
	@$(B)/bin/godwit demo --output $(B)/demo
