/*
 * floor DOMID GRANT PORT FILE [null]
 *
 * A backend that does for a request what none outside the kernel can do without, and nothing else: it waits for the event,
 * reads or writes the file, copies by grant, answers, notifies and unmasks; each of them is one system call. One thread, one
 * ring of one page, no checks: for a guest that is trusted, in the lab. With "null" nothing is read, written or copied: what is
 * left is the guest's, the hypervisor's and the kernel's.
 *
 * Layouts are those of Xen's public headers. It prints "ready" when it serves, and ends when it is killed.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Older interfaces name the barriers of ring.h otherwise. */
#define __XEN_INTERFACE_VERSION__ 0x00040200
#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>

#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#include <xen/io/blkif.h>

#define PAGE 4096u
#define SECTOR 512u
/* Of an indirect request; as many as Linux's blkfront asks for. */
#define MOST_SEGMENTS 32

typedef struct blkif_request_segment segment_t;
typedef struct ioctl_gntdev_grant_copy_segment copy_t;

static int events, grants, file;
static domid_t guest;
static bool null_backend;
static uint8_t *buffer;

static void copy(copy_t *copies, unsigned count)
{
    struct ioctl_gntdev_grant_copy call = { .count = count, .segments = copies };

    if (ioctl(grants, IOCTL_GNTDEV_GRANT_COPY, &call) < 0)
        err(1, "grant copy");
}

/* The segments of an indirect request, which are in a page of the guest's. */
static void read_segments(grant_ref_t page, segment_t *segments, unsigned count)
{
    copy_t one = {
        .source.foreign = { .ref = page, .domid = guest },
        .dest.virt = segments,
        .len = count * sizeof(*segments),
        .flags = GNTCOPY_source_gref,
    };

    copy(&one, 1);
}

static unsigned plan_copies(copy_t *copies, const segment_t *segments, unsigned count, bool to_guest)
{
    unsigned at = 0;

    for (unsigned i = 0; i < count; i++) {
        unsigned offset = segments[i].first_sect * SECTOR;
        unsigned length = (segments[i].last_sect + 1) * SECTOR - offset;

        memset(&copies[i], 0, sizeof(copies[i]));
        copies[i].len = length;
        copies[i].flags = to_guest ? GNTCOPY_dest_gref : GNTCOPY_source_gref;
        if (to_guest) {
            copies[i].source.virt = buffer + at;
            copies[i].dest.foreign.ref = segments[i].gref;
            copies[i].dest.foreign.offset = offset;
            copies[i].dest.foreign.domid = guest;
        } else {
            copies[i].dest.virt = buffer + at;
            copies[i].source.foreign.ref = segments[i].gref;
            copies[i].source.foreign.offset = offset;
            copies[i].source.foreign.domid = guest;
        }
        at += length;
    }
    return at;
}

static int16_t transfer(bool write, off_t at, const segment_t *segments, unsigned count)
{
    copy_t copies[MOST_SEGMENTS];
    unsigned length = plan_copies(copies, segments, count, !write);

    if (write) {
        copy(copies, count);
        return pwrite(file, buffer, length, at) == (ssize_t)length ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
    }
    if (pread(file, buffer, length, at) != (ssize_t)length)
        return BLKIF_RSP_ERROR;
    copy(copies, count);
    return BLKIF_RSP_OKAY;
}

static int16_t carry_out(const blkif_request_t *request)
{
    segment_t segments[MOST_SEGMENTS];

    if (request->operation == BLKIF_OP_INDIRECT) {
        const blkif_request_indirect_t *indirect = (const void *)request;

        if (indirect->nr_segments > MOST_SEGMENTS)
            return BLKIF_RSP_ERROR;
        if (null_backend)
            return BLKIF_RSP_OKAY;
        read_segments(indirect->indirect_grefs[0], segments, indirect->nr_segments);
        return transfer(indirect->indirect_op == BLKIF_OP_WRITE, indirect->sector_number * SECTOR, segments,
                        indirect->nr_segments);
    }
    if (null_backend)
        return BLKIF_RSP_OKAY;
    switch (request->operation) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
        if (request->nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST)
            return BLKIF_RSP_ERROR;
        return transfer(request->operation == BLKIF_OP_WRITE, request->sector_number * SECTOR, request->seg,
                        request->nr_segments);
    case BLKIF_OP_FLUSH_DISKCACHE:
        return fdatasync(file) == 0 ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
    default:
        return BLKIF_RSP_EOPNOTSUPP;
    }
}

/* Linux's blkfront takes the answer for what the request is made of. */
static uint8_t answered_operation(const blkif_request_t *request)
{
    const blkif_request_indirect_t *indirect = (const void *)request;

    return request->operation == BLKIF_OP_INDIRECT ? indirect->indirect_op : request->operation;
}

static blkif_back_ring_t map_ring(uint32_t grant)
{
    struct ioctl_gntdev_map_grant_ref map = { .count = 1, .refs[0] = { .domid = guest, .ref = grant } };
    blkif_back_ring_t ring;
    void *page;

    if (ioctl(grants, IOCTL_GNTDEV_MAP_GRANT_REF, &map) < 0)
        err(1, "map of grant %" PRIu32, grant);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, grants, map.index);
    if (page == MAP_FAILED)
        err(1, "mmap of grant %" PRIu32, grant);
    BACK_RING_INIT(&ring, (blkif_sring_t *)page, PAGE);
    return ring;
}

static void serve(blkif_back_ring_t *ring, uint32_t port)
{
    struct ioctl_evtchn_notify notify = { .port = port };

    for (;;) {
        uint32_t fired;
        int notify_guest, more;

        if (read(events, &fired, sizeof(fired)) != sizeof(fired)) {
            if (errno == EINTR)
                continue;
            err(1, "wait");
        }
        do {
            while (RING_HAS_UNCONSUMED_REQUESTS(ring)) {
                blkif_request_t request;
                blkif_response_t *response;
                int16_t status;

                memcpy(&request, RING_GET_REQUEST(ring, ring->req_cons), sizeof(request));
                ring->req_cons++;
                status = carry_out(&request);
                response = RING_GET_RESPONSE(ring, ring->rsp_prod_pvt++);
                response->id = request.id;
                response->operation = answered_operation(&request);
                response->status = status;
            }
            RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(ring, notify_guest);
            if (notify_guest && ioctl(events, IOCTL_EVTCHN_NOTIFY, &notify) < 0)
                err(1, "notify");
            RING_FINAL_CHECK_FOR_REQUESTS(ring, more);
        } while (more);
        if (write(events, &fired, sizeof(fired)) != sizeof(fired))
            err(1, "unmask");
    }
}

int main(int argc, char **argv)
{
    struct ioctl_evtchn_bind_interdomain bind;
    blkif_back_ring_t ring;
    int port;

    if (argc < 5)
        errx(2, "usage: floor DOMID GRANT PORT FILE [null]");
    guest = atoi(argv[1]);
    null_backend = argc > 5 && strcmp(argv[5], "null") == 0;
    file = open(argv[4], O_RDWR | O_DIRECT);
    if (file < 0)
        err(1, "%s", argv[4]);
    grants = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);
    events = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC);
    if (grants < 0 || events < 0)
        err(1, "/dev/xen");
    buffer = mmap(NULL, MOST_SEGMENTS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (buffer == MAP_FAILED)
        err(1, "buffer");
    ring = map_ring(strtoul(argv[2], NULL, 10));
    bind = (struct ioctl_evtchn_bind_interdomain){ .remote_domain = guest, .remote_port = strtoul(argv[3], NULL, 10) };
    port = ioctl(events, IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind);
    if (port < 0)
        err(1, "port %s of domain %s", argv[3], argv[1]);
    puts("ready");
    fflush(stdout);
    serve(&ring, port);
}
