# SPDX-License-Identifier: GPL-2.0-or-later
#
# The NIC's core, twice: as it runs in QEMU, and sanitized for unit tests and simulator.

CXX := $(CCACHE) g++
CC := $(CCACHE) gcc
CXXFLAGS_COMMON := -std=c++20 -Wall -Wextra -Werror -MMD -MP
CORE_INCLUDES := -Iqemu-device -Iqemu-device/include -Iabi
SANITIZE := -O2 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined

CORE_SOURCES := $(wildcard qemu-device/wire/*.cc qemu-device/transport/*.cc \
	qemu-device/resources/*.cc qemu-device/device/*.cc)
CORE_OBJECTS := $(CORE_SOURCES:%.cc=$(B)/obj/%.o)
CORE_SAN_OBJECTS := $(CORE_SOURCES:%.cc=$(B)/san/%.o)
CORE_LIBS := -ldeflate

$(B)/obj/qemu-device/%.o: qemu-device/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) $(CXXFLAGS_COMMON) $(OPTIMIZE) -fno-exceptions -fno-rtti -fPIC -fvisibility=hidden \
	  $(CORE_INCLUDES) -c $< -o $@

$(B)/san/qemu-device/%.o: qemu-device/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX san  $<'
	$(CXX) $(CXXFLAGS_COMMON) $(SANITIZE) -fno-exceptions -fno-rtti $(CORE_INCLUDES) -c $< -o $@

-include $(CORE_OBJECTS:.o=.d) $(CORE_SAN_OBJECTS:.o=.d)
