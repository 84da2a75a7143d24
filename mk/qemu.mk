# SPDX-License-Identifier: GPL-2.0-or-later
#
# The NIC as shared objects for the distribution's QEMU: godwit-nic.so is preloaded,
# and loads godwit-device.so. For a QEMU source tree: qemu-device/qemu/apply-overlay.

NIC := $(B)/lib/godwit-nic.so
GLUE_OBJECTS := $(addprefix $(B)/glue/,godwit.o port.o abi-guard.o trace.o) $(B)/obj/segment.o

# The folder with QEMU's headers, made once for each version of QEMU.
$(B)/qemu-headers: scripts/qemu-headers $(B)/config.mk
	@dir=$$(scripts/fill-cache '$(CACHE_DIR)' qemu scripts/qemu-headers --cache-dir '$(CACHE_DIR)' --qemu-source '$(QEMU_SOURCE)') && \
	  ln -sfn "$$dir" $@ && touch -h $@

H := $(B)/qemu-headers
GLUE_CFLAGS = -std=gnu11 $(OPTIMIZE) -fPIC -fno-strict-aliasing -fno-common -fwrapv -D_GNU_SOURCE \
  -D_FILE_OFFSET_BITS=64 -D_LARGEFILE_SOURCE -isystem $(H)/src/linux-headers \
  -isystem $(H)/build/linux-headers -iquote $(H)/build -iquote $(H)/src -iquote $(H)/src/include \
  -iquote $(H)/src/tcg/i386 -I$(B)/glue -I$(H)/build -I$(H)/build/qapi -Iqemu-device/include \
  -Iqemu-device/segment -Iabi -Wall -Werror -Wno-address-of-packed-member -MMD -MP $(shell pkg-config --cflags glib-2.0) \
  -DGODWIT_QEMU_VERSION='"$(QEMU_VERSION)"'
TRACE := $(B)/glue/trace/trace-hw_godwit

$(TRACE).h $(TRACE).c &: qemu-device/qemu/trace-events $(B)/qemu-headers
	@mkdir -p $(@D)
	@for format in h c; do python3 $(H)/src/scripts/tracetool.py --backend=log --group=hw_godwit \
	  --format=$$format $< $(TRACE).$$format || exit 1; done

$(B)/glue/%.o: qemu-device/qemu/%.c $(TRACE).h $(B)/qemu-headers
	@mkdir -p $(@D)
	@echo '  CC       $<'
	$(CC) $(GLUE_CFLAGS) -c $< -o $@
$(B)/glue/trace.o: $(TRACE).c $(B)/qemu-headers
	@echo '  CC       $<'
	$(CC) $(GLUE_CFLAGS) -c $< -o $@

# Also in the godwit command, which makes the segment.
$(B)/obj/segment.o: qemu-device/segment/segment.c $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CC       $<'
	$(CC) -std=c11 $(OPTIMIZE) -fPIC -Wall -Wextra -Werror -MMD -MP -c $< -o $@

$(B)/san/segment.o: qemu-device/segment/segment.c $(B)/config.mk
	@mkdir -p $(@D)
	@echo '  CC san   $<'
	$(CC) -std=c11 $(SANITIZE) -Wall -Wextra -Werror -MMD -MP -c $< -o $@

-include $(GLUE_OBJECTS:.o=.d) $(B)/san/segment.d

# For QEMU's own build.
$(B)/lib/libgodwit-core.a: $(CORE_OBJECTS) $(B)/obj/segment.o
	@mkdir -p $(@D)
	rm -f $@ && ar rcs $@ $^

$(B)/lib/godwit-device.so: $(GLUE_OBJECTS) $(CORE_OBJECTS)
	@mkdir -p $(@D)
	@echo '  LINK     $@'
	g++ -shared -static-libstdc++ -static-libgcc -o $@.new $^ -Wl,-Bsymbolic $(CORE_LIBS)
	@mv $@.new $@  # guests may run with the old one

$(NIC): qemu-device/qemu/preload-shim.c $(B)/lib/godwit-device.so
	@echo '  LINK     $@'
	$(CC) -O2 -Wall -Wextra -Werror -fPIC -shared -o $@.new $< -ldl
	@mv $@.new $@

all: $(NIC)
