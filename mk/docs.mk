# SPDX-License-Identifier: GPL-2.0-or-later
#
# The tables of docs/spec, from the comments in abi/ and other headers.

.PHONY: docs
docs:
	@scripts/render-docs
