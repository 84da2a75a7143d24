# SPDX-License-Identifier: GPL-2.0-or-later
#
# make bench: figures, never a test. The core alone, then in guests against Soft-RoCE and plain CRIU.

BENCH_CORE_OBJECTS := $(patsubst %.cc,$(B)/obj/%.o,tests/bench/core.cc $(wildcard tests/support/*.cc))
$(B)/obj/tests/support/%.o $(B)/obj/tests/bench/%.o: CXXFLAGS_BENCH = $(CORE_INCLUDES) -Itests -Ilab -I. $(LAB_FLAGS)
$(B)/obj/tests/support/%.o: tests/support/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) $(CXXFLAGS_COMMON) $(OPTIMIZE) $(CXXFLAGS_BENCH) -c $< -o $@
$(B)/obj/tests/bench/%.o: tests/bench/%.cc $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CXX      $<'
	$(CXX) $(CXXFLAGS_COMMON) $(OPTIMIZE) $(CXXFLAGS_BENCH) -c $< -o $@

$(B)/bench/core: $(BENCH_CORE_OBJECTS) $(CORE_OBJECTS)
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -o $@ $^ -lbenchmark $(CORE_LIBS) -lpthread
$(B)/bench/guests: $(B)/obj/tests/bench/guests.o $(B)/lib/libgodwit-lab.a
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -o $@ $^ $(LAB_LIBS)

-include $(BENCH_CORE_OBJECTS:.o=.d) $(B)/obj/tests/bench/guests.d

# BENCH: options of build/bench/guests, as "--only perftest --rounds 5"
.PHONY: bench
bench: all $(B)/bench/core $(B)/bench/guests
	@$(B)/bench/core --benchmark_out=$(B)/bench/core.json --benchmark_out_format=json
	@tests/bench/instructions $(B)/bench/core $(B)/bench/instructions.json
	@$(B)/bench/guests --output $(B)/bench/guests.json $(BENCH)
