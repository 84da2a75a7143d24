# SPDX-License-Identifier: GPL-2.0-or-later
#
# The NIC as shared objects for the distribution's QEMU: godwit-nic.so is preloaded,
# and loads godwit-device.so.

NIC := $(B)/lib/godwit-nic.so
GLUE_OBJECTS := $(B)/glue/godwit.o $(B)/glue/abi-guard.o

# The folder with QEMU's headers, made once for each version of QEMU.
$(B)/qemu-headers: scripts/qemu-headers $(B)/config.mk
	@dir=$$(scripts/qemu-headers --cache-dir '$(CACHE_DIR)' --qemu-source '$(QEMU_SOURCE)') && \
	  ln -sfn "$$dir" $@ && touch -h $@

H := $(B)/qemu-headers
GLUE_CFLAGS = -std=gnu11 $(OPTIMIZE) -fPIC -fno-strict-aliasing -fno-common -fwrapv -D_GNU_SOURCE \
  -D_FILE_OFFSET_BITS=64 -D_LARGEFILE_SOURCE -isystem $(H)/src/linux-headers \
  -isystem $(H)/build/linux-headers -iquote $(H)/build -iquote $(H)/src -iquote $(H)/src/include \
  -iquote $(H)/src/tcg/i386 -I$(H)/build -I$(H)/build/qapi -Iqemu-device/include -Iqemu-device/qemu \
  -Wall -Werror -Wno-address-of-packed-member $(shell pkg-config --cflags glib-2.0) \
  -DGODWIT_QEMU_PACKAGE='"$(QEMU_PACKAGE)"'

$(B)/glue/%.o: qemu-device/qemu/%.c qemu-device/qemu/godwit_glue.h \
		qemu-device/include/godwit_device.h $(B)/qemu-headers
	@mkdir -p $(@D)
	$(CC) $(GLUE_CFLAGS) -c $< -o $@

$(B)/lib/godwit-device.so: $(GLUE_OBJECTS) $(CORE_OBJECTS)
	@mkdir -p $(@D)
	g++ -shared -static-libstdc++ -static-libgcc -o $@.new $^ -Wl,-Bsymbolic
	@mv $@.new $@  # guests may run with the old one

$(NIC): qemu-device/qemu/preload-shim.c $(B)/lib/godwit-device.so
	$(CC) -O2 -Wall -Wextra -Werror -fPIC -shared -o $@.new $< -ldl
	@mv $@.new $@

all: $(NIC)
