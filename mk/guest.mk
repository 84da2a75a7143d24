# SPDX-License-Identifier: GPL-2.0-or-later
#
# What runs in the guest: module, provider, plugin, agent, test programs, image.

STAGE := $(B)/stage
