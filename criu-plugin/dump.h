// SPDX-License-Identifier: GPL-2.0-or-later
//
// The dump side of the plugin: finds every context of the tasks that CRIU has
// seized, refuses what cannot be restored, freezes all, and writes the image.
#ifndef GODWIT_CRIU_DUMP_H
#define GODWIT_CRIU_DUMP_H

namespace godwit::criu {

// CR_PLUGIN_HOOK__DUMP_EXT_FILE. -ENOTSUP: not ours.
int dump_file(int fd, int id);
// At the end of a dump; after this CRIU lets the tasks go or kills them.
void finish_dump(int ret);

}  // namespace godwit::criu

#endif  // GODWIT_CRIU_DUMP_H
