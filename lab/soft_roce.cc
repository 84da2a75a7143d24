// SPDX-License-Identifier: GPL-2.0-or-later
#include "soft_roce.h"

#include <algorithm>
#include <sstream>

#include "error.h"
#include "plan.h"

namespace godwit::lab {
namespace {

// The RDMA device of vn0, whoever has made it under whatever name.
constexpr const char* kFind = R"sh(
device() { rdma link show | sed -n 's,^link \([^/]*\)/1 .* netdev vn0 *$,\1,p' | head -n 1; }
)sh";

// Prints: device, index and GID of the address. Exit code 3: no module.
constexpr const char* kOn = R"sh(
ip=$1
if [ -z "$(device)" ]; then
  modprobe rdma_rxe || exit 3
  rdma link add rxe0 type rxe netdev vn0 || exit 1
fi
device=$(device)
gid=$(printf '0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x' $(echo $ip | tr . ' '))
cd /sys/class/infiniband/$device/ports/1 || exit 1
for attempt in $(seq 100); do
  for index in $(seq 0 63); do
    case "$(cat state)" in *ACTIVE) ;; *) break ;; esac
    [ "$(cat gids/$index 2> /dev/null)" = $gid ] || continue
    echo $device $index $gid
    exit 0
  done
  sleep 0.1
done
echo "$device does not get ready: $(cat state), no GID $gid"
exit 1
)sh";

constexpr const char* kOff = R"sh(
device=$(device)
[ -z "$device" ] || rdma link del $device || exit 1
[ ! -d /sys/module/rdma_rxe ] || rmmod rdma_rxe 2> /dev/null || true
)sh";

ExecResult run(const Lab& lab, const std::string& guest, const char* script) {
  const nlohmann::json state = lab.status();
  const auto& guests = state["guests"];
  if (std::none_of(guests.begin(), guests.end(),
                   [&](const auto& g) { return g["name"] == guest; })) {
    throw Error("no guest " + guest + "; see 'godwit status'");
  }
  if (!state.value("virtio", false)) {
    throw Error(
        "the guests of this lab have no plain NIC: 'godwit down', then 'godwit up N --virtio'");
  }
  return lab.exec(guest,
                  {"sh", "-c", std::string(kFind) + script, "sh", virtio_ip(guest_index(guest))});
}

}  // namespace

SoftRoce soft_roce_on(const Lab& lab, const std::string& guest) {
  const ExecResult result = run(lab, guest, kOn);
  if (result.code == 3) {
    throw Error(guest +
                "'s kernel has no module rdma_rxe, which Debian's has: 'make image', then start "
                "the lab anew\n" +
                result.out);
  }
  SoftRoce made{.device = {}, .netdev = "vn0", .ip = virtio_ip(guest_index(guest)), .gid = {}};
  std::istringstream words(result.out);
  if (result.code != 0 || !(words >> made.device >> made.gid_index >> made.gid)) {
    throw Error(guest + ": no Soft-RoCE on vn0\n" + result.out);
  }
  return made;
}

void soft_roce_off(const Lab& lab, const std::string& guest) {
  const ExecResult result = run(lab, guest, kOff);
  if (result.code != 0) throw Error(guest + ": Soft-RoCE stays\n" + result.out);
}

}  // namespace godwit::lab
