# SPDX-License-Identifier: GPL-2.0-or-later
#
# Style and static checks; not part of make check.

.PHONY: lint
lint: $(B)/kernel-version
	@scripts/lint --kernel $$(cat $(B)/kernel-version) --cache-dir '$(CACHE_DIR)'
