/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Godwit RDMA NIC: QEMU's side of it. A PCI Express endpoint whose behaviour
 * is in the core (godwit_device.h); here are the BARs, MSI-X, memory, timers,
 * the netdev and the VM state.
 *
 * MMIO writes, frames and timers all come with the big lock held: the core is
 * entered from one place at a time. The work is done in a bottom half, but for
 * the first packets of a doorbell: the processor that rang it sends them itself,
 * which saves the way to the main loop.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/guest-random.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "sysemu/runstate.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "exec/address-spaces.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci.h"
#include "hw/pci/pcie.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "migration/vmstate.h"
#include "net/net.h"
#include "qom/object.h"

#include "godwit_counters.h"
#include "godwit_device.h"
#include "godwit_regs.h"
#include "trace.h"

#define TYPE_GODWIT "godwit"
OBJECT_DECLARE_SIMPLE_TYPE(GodwitState, GODWIT)

/* Of the core's state in VM snapshots. */
#define GODWIT_SAVED_LIMIT (1u << 30)

struct GodwitState {
    PCIDevice parent_obj;
    MemoryRegion registers;
    MemoryRegion doorbells;
    NICState *nic;
    NICConf conf;
    QEMUBH *bh;
    QEMUTimer *timer;
    uint64_t timer_at;
    struct godwit_device *device;
    struct godwit_device_config config;
    VMChangeStateEntry *vm_state;
    /* The core is working: its DMA may reach its own BARs or configuration space. */
    bool working;
    /* A doorbell is handed to the core, which may wish to run. */
    bool ringing;
    bool run_wanted;
    bool bh_pending;
    bool reset_wanted;
    bool frame_refused;
    /* VM state: the core's bytes */
    uint32_t saved_length;
    uint8_t *saved;
};

static uint64_t godwit_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

static void godwit_schedule(GodwitState *s)
{
    uint64_t at = godwit_device_next_deadline(s->device);

    if (at == s->timer_at) {
        return;
    }
    s->timer_at = at;
    if (at == GODWIT_NO_DEADLINE || at > INT64_MAX) {
        timer_del(s->timer);
    } else {
        timer_mod_ns(s->timer, at);
    }
}

static void godwit_run_later(GodwitState *s)
{
    s->bh_pending = true;
    qemu_bh_schedule(s->bh);
}

static void godwit_enter(GodwitState *s)
{
    s->working = true;
}

static void godwit_leave(GodwitState *s)
{
    s->working = false;
    if (s->reset_wanted) {
        s->reset_wanted = false;
        godwit_device_reset(s->device);
    }
    godwit_schedule(s);
}

/* run: godwit_device_run or godwit_device_run_briefly */
static void godwit_run(GodwitState *s, bool (*run)(struct godwit_device *, uint64_t))
{
    godwit_enter(s);
    if (run(s->device, godwit_now())) {
        godwit_run_later(s);
    }
    godwit_leave(s);
}

/* Guest memory does not change while the VM is stopped: it may just be saved. */
static void godwit_bh(void *opaque)
{
    GodwitState *s = opaque;

    s->bh_pending = false;
    if (!runstate_is_running()) {
        return;
    }
    godwit_run(s, godwit_device_run);
    if (s->frame_refused) {
        s->frame_refused = false;
        qemu_flush_queued_packets(qemu_get_queue(s->nic));
    }
}

static void godwit_vm_state(void *opaque, bool running, RunState state)
{
    GodwitState *s = opaque;

    if (running) {
        godwit_run_later(s);
    }
}

static void godwit_timer(void *opaque)
{
    GodwitState *s = opaque;

    s->timer_at = GODWIT_NO_DEADLINE;
    godwit_run(s, godwit_device_run);
}

/* ---------------------------------------------------- services for the core */

static int godwit_dma_read(void *opaque, uint64_t addr, void *buffer, size_t length)
{
    GodwitState *s = opaque;

    return pci_dma_read(&s->parent_obj, addr, buffer, length) == MEMTX_OK ? 0 : -1;
}

/*
 * An aligned write of up to 8 bytes must be one store: the guest polls it. QEMU's
 * own copy into RAM is memmove, which is one store for these sizes only by luck.
 */
static bool godwit_store(PCIDevice *pci, uint64_t addr, const void *buffer, size_t length)
{
    dma_addr_t mapped = length;
    ram_addr_t offset;
    void *host = pci_dma_map(pci, addr, &mapped, DMA_DIRECTION_FROM_DEVICE);
    bool stored = false;

    if (!host) {
        return false;
    }
    /* Else it is a bounce buffer, and whether it can be written is not known yet. */
    if (mapped == length && memory_region_from_host(host, &offset)) {
        stored = true;
        switch (length) {
        case 8:
            qatomic_store_release((uint64_t *)host, ldq_he_p(buffer));
            break;
        case 4:
            qatomic_store_release((uint32_t *)host, ldl_he_p(buffer));
            break;
        case 2:
            qatomic_store_release((uint16_t *)host, lduw_he_p(buffer));
            break;
        default:
            stored = false;
        }
    }
    pci_dma_unmap(pci, host, mapped, DMA_DIRECTION_FROM_DEVICE, stored ? length : 0);
    return stored;
}

static int godwit_dma_write(void *opaque, uint64_t addr, const void *buffer, size_t length)
{
    GodwitState *s = opaque;
    PCIDevice *pci = &s->parent_obj;

    if ((length == 8 || length == 4 || length == 2) && (addr & (length - 1)) == 0 &&
        godwit_store(pci, addr, buffer, length)) {
        return 0;
    }
    return pci_dma_write(pci, addr, buffer, length) == MEMTX_OK ? 0 : -1;
}

static void godwit_wire_ready(NetClientState *nc, ssize_t ret)
{
    GodwitState *s = qemu_get_nic_opaque(nc);

    godwit_device_wire_ready(s->device);
}

/* What the netdev does not take now, QEMU keeps: nothing that follows may overtake it. */
static bool godwit_send_frame(void *opaque, const uint8_t *frame, size_t length)
{
    GodwitState *s = opaque;

    return qemu_send_packet_async(qemu_get_queue(s->nic), frame, length, godwit_wire_ready) != 0;
}

static void godwit_raise_interrupt(void *opaque, unsigned vector)
{
    GodwitState *s = opaque;

    if (vector < s->config.vectors) {
        smp_wmb();
        msix_notify(&s->parent_obj, vector);
    }
}

static void godwit_kick(void *opaque)
{
    GodwitState *s = opaque;

    /* If the main loop is on its way, it does all of it. */
    if (s->ringing && !s->bh_pending && runstate_is_running()) {
        s->run_wanted = true;
    } else {
        godwit_run_later(s);
    }
}

static void godwit_trace(void *opaque, enum godwit_trace_event event, uint64_t a, uint64_t b,
                         uint64_t c, uint64_t d)
{
    GodwitState *s = opaque;
    const char *id = DEVICE(s)->id ? DEVICE(s)->id : TYPE_GODWIT;

    switch (event) {
    case GODWIT_TRACE_COMMAND:
        trace_godwit_command(id, a, b, c, d);
        break;
    case GODWIT_TRACE_BAD_REGISTER:
        trace_godwit_bad_register(id, a, b, c, d);
        break;
    case GODWIT_TRACE_BAD_DOORBELL:
        trace_godwit_bad_doorbell(id, a, b, c, d);
        break;
    case GODWIT_TRACE_BAD_WQE:
        trace_godwit_bad_wqe(id, a, b, c);
        break;
    case GODWIT_TRACE_DMA_ERROR:
        trace_godwit_dma_error(id, a, b, c);
        break;
    case GODWIT_TRACE_QP_STATUS:
        trace_godwit_qp_status(id, a, b, c, d);
        break;
    case GODWIT_TRACE_QP_ERROR:
        trace_godwit_qp_error(id, a, b, c, d);
        break;
    case GODWIT_TRACE_RX_DROP:
        trace_godwit_rx_drop(id, a, b, c, d);
        break;
    case GODWIT_TRACE_PACKET_RX:
        trace_godwit_packet_rx(id, a, b, c, d);
        break;
    case GODWIT_TRACE_PACKET_TX:
        trace_godwit_packet_tx(id, a, b, c, d);
        break;
    case GODWIT_TRACE_MIGRATION:
        trace_godwit_migration(id, a, b, c);
        break;
    case GODWIT_TRACE_FATAL:
        trace_godwit_fatal(id, a);
        break;
    case GODWIT_TRACE_RESET:
        trace_godwit_reset(id);
        break;
    case GODWIT_TRACE_COUNT:
        break;
    }
}

/* ------------------------------------------------------------- MMIO, frames */

/*
 * Accesses while the core is working can only come from its own DMA. As in a
 * bridge that does not send a request back to where it came from, they go nowhere.
 */
static uint64_t godwit_register_read(void *opaque, hwaddr addr, unsigned size)
{
    GodwitState *s = opaque;

    return s->working ? 0 : godwit_device_register_read(s->device, addr, size);
}

static void godwit_register_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    GodwitState *s = opaque;

    if (!s->working) {
        godwit_device_register_write(s->device, addr, value, size);
    }
}

static uint64_t godwit_doorbell_read(void *opaque, hwaddr addr, unsigned size)
{
    return 0;
}

static void godwit_doorbell_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    GodwitState *s = opaque;

    if (s->working) {
        return;
    }
    s->ringing = true;
    godwit_device_doorbell_write(s->device, addr, value, size);
    s->ringing = false;
    if (s->run_wanted) {
        s->run_wanted = false;
        godwit_run(s, godwit_device_run_briefly);
    }
}

static const MemoryRegionOps godwit_register_ops = {
    .read = godwit_register_read,
    .write = godwit_register_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

static const MemoryRegionOps godwit_doorbell_ops = {
    .read = godwit_doorbell_read,
    .write = godwit_doorbell_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/* Never refuses for long: a frame for which there is no room is the core's to drop and count. */
static ssize_t godwit_receive(NetClientState *nc, const uint8_t *buffer, size_t size)
{
    GodwitState *s = qemu_get_nic_opaque(nc);

    /* Another NIC in this QEMU may answer a frame while we are still sending it. */
    if (s->working) {
        s->frame_refused = true;
        godwit_run_later(s);
        return 0;
    }
    godwit_enter(s);
    godwit_device_receive_frame(s->device, godwit_now(), buffer, size);
    godwit_leave(s);
    return size;
}

static void godwit_link_status_changed(NetClientState *nc)
{
    GodwitState *s = qemu_get_nic_opaque(nc);

    godwit_device_set_link(s->device, !nc->link_down);
}

static NetClientInfo godwit_net_info = {
    .type = NET_CLIENT_DRIVER_NIC,
    .size = sizeof(NICState),
    .receive = godwit_receive,
    .link_status_changed = godwit_link_status_changed,
};

/* ---------------------------------------------------------------- life cycle */

static void godwit_realize(PCIDevice *pci, Error **errp)
{
    GodwitState *s = GODWIT(pci);
    struct godwit_host_ops ops = {
        .opaque = s,
        .dma_read = godwit_dma_read,
        .dma_write = godwit_dma_write,
        .send_frame = godwit_send_frame,
        .raise_interrupt = godwit_raise_interrupt,
        .kick = godwit_kick,
        .trace = godwit_trace,
    };
    const char *wrong;

    qemu_macaddr_default_if_unset(&s->conf.macaddr);
    memcpy(s->config.mac, s->conf.macaddr.a, sizeof(s->config.mac));
    /* Two NICs with the same numbers could not take over each other's queue pairs. */
    if (s->config.seed == 0 &&
        qemu_guest_getrandom(&s->config.seed, sizeof(s->config.seed), errp) != 0) {
        return;
    }
    wrong = godwit_device_check_config(&s->config);
    if (wrong) {
        error_setg(errp, "godwit: %s", wrong);
        return;
    }
    if (pcie_endpoint_cap_init(pci, 0) < 0) {
        error_setg(errp, "godwit: no PCI Express capability here: plug it into a PCIe slot");
        return;
    }
    pcie_cap_flr_init(pci);

    s->device = godwit_device_new(&s->config, &ops);
    if (!s->device) {
        error_setg(errp, "godwit: out of memory");
        return;
    }
    memory_region_init_io(&s->registers, OBJECT(s), &godwit_register_ops, s, "godwit-registers",
                          GODWIT_BAR_REGS_SIZE);
    memory_region_init_io(&s->doorbells, OBJECT(s), &godwit_doorbell_ops, s, "godwit-doorbells",
                          (uint64_t)s->config.doorbell_pages * GODWIT_DB_PAGE_SIZE);
    pci_register_bar(pci, GODWIT_BAR_REGS, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->registers);
    pci_register_bar(pci, GODWIT_BAR_DOORBELLS,
                     PCI_BASE_ADDRESS_SPACE_MEMORY | PCI_BASE_ADDRESS_MEM_TYPE_64 |
                         PCI_BASE_ADDRESS_MEM_PREFETCH,
                     &s->doorbells);
    if (msix_init_exclusive_bar(pci, s->config.vectors, GODWIT_BAR_MSIX, errp)) {
        godwit_device_free(s->device);
        s->device = NULL;
        return;
    }
    for (unsigned int i = 0; i < s->config.vectors; i++) {
        msix_vector_use(pci, i);
    }

    s->bh = qemu_bh_new(godwit_bh, s);
    s->vm_state = qemu_add_vm_change_state_handler(godwit_vm_state, s);
    s->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, godwit_timer, s);
    s->timer_at = GODWIT_NO_DEADLINE;
    s->nic = qemu_new_nic(&godwit_net_info, &s->conf, object_get_typename(OBJECT(s)),
                          DEVICE(s)->id, &DEVICE(s)->mem_reentrancy_guard, s);
    qemu_format_nic_info_str(qemu_get_queue(s->nic), s->conf.macaddr.a);
    godwit_device_set_link(s->device, !qemu_get_queue(s->nic)->link_down);
}

static void godwit_exit(PCIDevice *pci)
{
    GodwitState *s = GODWIT(pci);

    qemu_del_vm_change_state_handler(s->vm_state);
    /* The netdev may stay, and must not report frames that it still has to a NIC that is gone. */
    qemu_purge_queued_packets(qemu_get_queue(s->nic));
    qemu_bh_delete(s->bh);
    timer_free(s->timer);
    qemu_del_nic(s->nic);
    msix_uninit_exclusive_bar(pci);
    pcie_cap_exit(pci);
    godwit_device_free(s->device);
    g_free(s->saved);
}

static void godwit_reset(DeviceState *dev)
{
    GodwitState *s = GODWIT(dev);

    if (s->working) {
        s->reset_wanted = true;
        return;
    }
    godwit_device_reset(s->device);
    godwit_schedule(s);
}

static void godwit_config_write(PCIDevice *pci, uint32_t addr, uint32_t value, int length)
{
    pci_default_write_config(pci, addr, value, length);
    pcie_cap_flr_write_config(pci, addr, value, length);
}

/* ------------------------------------------------------------------ VM state */

static int godwit_pre_save(void *opaque)
{
    GodwitState *s = opaque;
    size_t need = godwit_device_save(s->device, godwit_now(), NULL, 0);

    if (need > GODWIT_SAVED_LIMIT) {
        error_report("godwit: too many memory regions to be saved with the VM");
        return -EFBIG;
    }
    g_free(s->saved);
    s->saved = g_malloc(need);
    s->saved_length = godwit_device_save(s->device, godwit_now(), s->saved, need);
    return 0;
}

static int godwit_post_save(void *opaque)
{
    GodwitState *s = opaque;

    g_clear_pointer(&s->saved, g_free);
    return 0;
}

/* The length comes from outside: it must not make QEMU run out of memory. */
static bool godwit_length_sane(void *opaque, int version_id)
{
    GodwitState *s = opaque;

    return s->saved_length <= GODWIT_SAVED_LIMIT;
}

static int godwit_post_load(void *opaque, int version_id)
{
    GodwitState *s = opaque;
    const char *wrong =
        godwit_device_load(s->device, godwit_now(), s->saved, s->saved_length);

    g_clear_pointer(&s->saved, g_free);
    if (wrong) {
        error_report("godwit: the saved state cannot be used: %s", wrong);
        return -EINVAL;
    }
    s->timer_at = GODWIT_NO_DEADLINE;
    godwit_run_later(s);
    return 0;
}

static const VMStateDescription godwit_vmstate = {
    .name = TYPE_GODWIT,
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = godwit_pre_save,
    .post_save = godwit_post_save,
    .post_load = godwit_post_load,
    .fields = (VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, GodwitState),
        VMSTATE_MSIX(parent_obj, GodwitState),
        VMSTATE_UINT32(saved_length, GodwitState),
        VMSTATE_VALIDATE("length of the core's state", godwit_length_sane),
        VMSTATE_VBUFFER_ALLOC_UINT32(saved, GodwitState, 1, NULL, saved_length),
        VMSTATE_END_OF_LIST()
    },
};

/* ---------------------------------------------------------------- properties */

/* qom-get … counters: in the order of abi/godwit_counters.h, also while the guest hangs. */
static void godwit_get_counters(Object *obj, Visitor *v, const char *name, void *opaque,
                                Error **errp)
{
    GodwitState *s = GODWIT(obj);
    uint64List *list = NULL;

    for (int i = GODWIT_COUNTER_COUNT - 1; s->device && i >= 0; i--) {
        QAPI_LIST_PREPEND(list, godwit_device_counter(s->device, i));
    }
    visit_type_uint64List(v, name, &list, errp);
    qapi_free_uint64List(list);
}

static void godwit_instance_init(Object *obj)
{
    GodwitState *s = GODWIT(obj);

    godwit_device_default_config(&s->config);
    s->config.seed = 0;
}

/* Without defaults: those are the core's. No seed: another at each start. */
static Property godwit_properties[] = {
    DEFINE_NIC_PROPERTIES(GodwitState, conf),
    DEFINE_PROP("vectors", GodwitState, config.vectors, qdev_prop_uint16, uint16_t),
    DEFINE_PROP("doorbell-pages", GodwitState, config.doorbell_pages, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-pd", GodwitState, config.max_pd, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-mr", GodwitState, config.max_mr, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-cq", GodwitState, config.max_cq, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-qp", GodwitState, config.max_qp, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-qp-wr", GodwitState, config.max_qp_wr, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("log2-max-cqe", GodwitState, config.log2_max_cqe, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-rd-atomic", GodwitState, config.max_rd_atomic, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-mr-pages", GodwitState, config.max_mr_pages, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("max-tombstones", GodwitState, config.max_tombstones, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("seed", GodwitState, config.seed, qdev_prop_uint64, uint64_t),
    DEFINE_PROP("pause-limit", GodwitState, config.pause_limit_ms, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("tombstone-ttl", GodwitState, config.tombstone_ttl_ms, qdev_prop_uint32, uint32_t),
    DEFINE_PROP("migration", GodwitState, config.migration, qdev_prop_bool, bool),
    DEFINE_PROP("resume-unknown", GodwitState, config.resume_unknown, qdev_prop_bool, bool),
    DEFINE_PROP("bare-resume", GodwitState, config.bare_resume, qdev_prop_bool, bool),
    DEFINE_PROP("atomics", GodwitState, config.atomics, qdev_prop_bool, bool),
    DEFINE_PROP_END_OF_LIST(),
};

static void godwit_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    pc->realize = godwit_realize;
    pc->exit = godwit_exit;
    pc->config_write = godwit_config_write;
    pc->vendor_id = GODWIT_PCI_VENDOR_ID;
    pc->device_id = GODWIT_PCI_DEVICE_ID;
    pc->revision = GODWIT_PCI_REVISION;
    pc->class_id = PCI_CLASS_NETWORK_ETHERNET;
    dc->reset = godwit_reset;
    dc->vmsd = &godwit_vmstate;
    dc->desc = "Godwit RDMA NIC (RoCEv2, connections can migrate)";
    device_class_set_props(dc, godwit_properties);
    object_class_property_add(klass, "counters", "uint64List", godwit_get_counters, NULL, NULL,
                              NULL);
    set_bit(DEVICE_CATEGORY_NETWORK, dc->categories);
}

static const TypeInfo godwit_info = {
    .name = TYPE_GODWIT,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(GodwitState),
    .instance_init = godwit_instance_init,
    .class_init = godwit_class_init,
    .interfaces = (InterfaceInfo[]) { { INTERFACE_PCIE_DEVICE }, { } },
};

static void godwit_register(void)
{
    type_register_static(&godwit_info);
}

type_init(godwit_register)
