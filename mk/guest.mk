# SPDX-License-Identifier: GPL-2.0-or-later
#
# What runs in the guest: module, provider, plugin, agent, test programs; and its image.

STAGE := $(B)/stage
LIBDIR := usr/lib/x86_64-linux-gnu
STAGED :=

# ---- the image's own part: Debian
$(B)/image/base.sqfs: $(wildcard images/*) $(B)/config.mk
	@scripts/fill-cache '$(CACHE_DIR)' image images/build-base --output $(B)/image --cache-dir '$(CACHE_DIR)'
	@touch -h $@

$(B)/kernel-version: $(B)/image/base.sqfs
	@cp $(B)/image/kernel-version $@

# ---- agent
$(STAGE)/usr/bin/godwit-agent: images/agent/agent.cc lab/frame.cc lab/frame.h lab/error.h $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) -std=c++20 -Wall -Wextra -Werror -O2 -static -Ilab -o $@ $(filter %.cc,$^)
STAGED += $(STAGE)/usr/bin/godwit-agent

# ---- godwit.ko, for the image's kernel
MODULE_SOURCES := $(wildcard guest-driver/kernel/*.c guest-driver/kernel/*.h guest-driver/kernel/Kbuild \
	guest-driver/uapi/*.h abi/*.h)
$(B)/kernel/godwit.ko: $(MODULE_SOURCES) $(B)/kernel-version
	@echo '  MODULE   $@'
	@dir=$$(scripts/fill-cache '$(CACHE_DIR)' kernel images/fetch-kernel-headers --kernel $$(cat $(B)/kernel-version) --cache-dir '$(CACHE_DIR)') && \
	  $(MAKE) -s -C guest-driver/kernel KDIR=$$dir OUT=$(abspath $(B)/kernel) CC="$(CCACHE) gcc" W=1
	@touch $@
$(B)/module.staged: $(B)/kernel/godwit.ko
	@dir=$(STAGE)/usr/lib/modules/$$(cat $(B)/kernel-version)/extra && rm -rf $(STAGE)/usr/lib/modules && \
	  mkdir -p $$dir && strip --strip-debug -o $$dir/godwit.ko $< && touch $@
STAGED += $(B)/module.staged

# The cloud flavour: compiles, and is not in the image.
.PHONY: module-cloud
module-cloud: $(MODULE_SOURCES) $(B)/kernel-version
	@version=$$(sed 's/-amd64$$/-cloud-amd64/' $(B)/kernel-version) && \
	  dir=$$(scripts/fill-cache '$(CACHE_DIR)' kernel images/fetch-kernel-headers --kernel $$version --cache-dir '$(CACHE_DIR)') && \
	  $(MAKE) -s -C guest-driver/kernel KDIR=$$dir OUT=$(abspath $(B)/kernel-cloud) CC="$(CCACHE) gcc" W=1

# ---- provider
PROVIDER_SOURCES := $(wildcard guest-driver/provider/*.c)
ifneq ($(PROVIDER_SOURCES),)
PROVIDER := $(STAGE)/$(LIBDIR)/libibverbs/libgodwit-rdmav34.so
$(PROVIDER): $(PROVIDER_SOURCES) $(wildcard guest-driver/provider/*.h guest-driver/provider/*/*.h guest-driver/uapi/*.h abi/*.h)
	@mkdir -p $(@D) $(STAGE)/etc/libibverbs.d
	@echo '  LINK     $@'
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared -Iabi -Iguest-driver/uapi \
	  -Iguest-driver/provider -o $@ $(PROVIDER_SOURCES) -Wl,-z,now -Wl,-z,defs -libverbs -lpthread
	@echo 'driver godwit' > $(STAGE)/etc/libibverbs.d/godwit.driver
STAGED += $(PROVIDER)
endif

# ---- plugin and its tool
PLUGIN_FLAGS := -std=c++20 -O2 -g -fPIC -Wall -Wextra -Werror -Iabi -Iguest-driver/uapi -I$(B)/plugin -Icriu-plugin
PLUGIN_COMMON := uverbs image proc
$(B)/plugin/godwit.pb.h $(B)/plugin/godwit.pb.cc &: criu-plugin/godwit.proto $(B)/config.mk
	@mkdir -p $(B)/plugin
	@echo '  PROTOC   $<'
	protoc -Icriu-plugin --cpp_out=$(B)/plugin godwit.proto
$(B)/plugin/godwit.pb.o: $(B)/plugin/godwit.pb.cc
	@echo '  CXX      $<'
	$(CXX) -std=c++20 -O2 -fPIC -I$(B)/plugin -c $< -o $@
$(B)/plugin/%.o: criu-plugin/%.cc $(B)/plugin/godwit.pb.h
	@echo '  CXX      $<'
	$(CXX) $(PLUGIN_FLAGS) -MMD -MP -c $< -o $@
-include $(wildcard $(B)/plugin/*.d)
$(STAGE)/usr/lib/criu/godwit_plugin.so: $(addprefix $(B)/plugin/,$(PLUGIN_COMMON:=.o) dump.o restore.o gate.o plugin.o godwit.pb.o)
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -shared -Wl,-z,now -static-libgcc -o $@ $^ -lprotobuf-lite
$(STAGE)/usr/bin/godwit-cr: $(addprefix $(B)/plugin/,$(PLUGIN_COMMON:=.o) godwit_cr.o godwit.pb.o)
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -o $@ $^ -lprotobuf-lite
STAGED += $(STAGE)/usr/lib/criu/godwit_plugin.so $(STAGE)/usr/bin/godwit-cr

# ---- programs for tests and demo
APPS := $(patsubst tests/apps/%.cc,%,$(wildcard tests/apps/*.cc))
$(STAGE)/usr/bin/godwit-%: tests/apps/godwit-%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) -std=c++20 -O2 -g -Wall -Wextra -Werror -o $@ $< -libverbs -lpthread
# This one calls the driver's own methods.
$(STAGE)/usr/bin/godwit-hostile: tests/apps/godwit-hostile.cc tests/apps/support.h $(B)/plugin/uverbs.o
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) $(PLUGIN_FLAGS) -o $@ $< $(B)/plugin/uverbs.o -libverbs -lpthread
STAGED += $(APPS:%=$(STAGE)/usr/bin/%)

# ---- for an image of one's own
.PHONY: install-guest
install-guest: $(PROVIDER) $(STAGE)/usr/lib/criu/godwit_plugin.so $(STAGE)/usr/bin/godwit-cr
	@scripts/install-guest --stage $(STAGE) --destdir '$(DESTDIR)'

# ---- the image's other part: ours
$(B)/image/godwit.sqfs: $(STAGED) $(shell find images/rootfs -type f) images/build-overlay
	@echo '  IMAGE    $@'
	@images/build-overlay --stage $(STAGE) --output $@

.PHONY: image
image: $(B)/image/base.sqfs $(B)/image/godwit.sqfs
all: image
