# SPDX-License-Identifier: GPL-2.0-or-later
#
# The godwit command, and the library below it.

LAB_FLAGS := $(shell pkg-config --cflags gio-unix-2.0 2>/dev/null)
LAB_LIBS := $(shell pkg-config --libs gio-unix-2.0 2>/dev/null) -lpthread
LAB_SOURCES := $(filter-out lab/main.cc,$(wildcard lab/*.cc))
LAB_OBJECTS := $(LAB_SOURCES:%.cc=$(B)/obj/%.o)

$(B)/obj/lab/%.o: lab/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) $(CXXFLAGS_COMMON) $(OPTIMIZE) -Ilab -I. $(CORE_INCLUDES) $(LAB_FLAGS) -c $< -o $@

$(B)/lib/libgodwit-lab.a: $(LAB_OBJECTS) $(B)/obj/segment.o
	@mkdir -p $(@D)
	rm -f $@ && ar rcs $@ $^

$(B)/bin/godwit: $(B)/obj/lab/main.o $(B)/lib/libgodwit-lab.a
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -o $@.new $^ $(LAB_LIBS)
	mv $@.new $@

-include $(LAB_OBJECTS:.o=.d) $(B)/obj/lab/main.d

ifneq ($(wildcard lab/main.cc),)
all: $(B)/bin/godwit
endif
