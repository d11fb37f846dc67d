/*
 * Byte streams by Xen's own headers, for testing ours against them: one end of a page of a console or of xenstore, with
 * the structures and the masks of io/console.h and io/xs_wire.h, or of a flex ring, with the functions that
 * DEFINE_XEN_FLEX_RING makes: of io/9pfs.h, or of io/pvcalls.h where it is compiled with -DPVCALLS.
 *
 *   interop-bytes console|xenstore|flex guest|backend FILE BYTES COUNT
 *
 * COUNT bytes go each way, and what byte n must be follows from n. An event is a byte on standard output, a wake-up is
 * one on standard input. Exits with 1 and a message when anything is wrong.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#ifdef PVCALLS
#include <xen/io/pvcalls.h>
#define FLEX(name) pvcalls_##name
#else
#include <xen/io/9pfs.h>
#define FLEX(name) xen_9pfs_##name
#endif

#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)
#define GET(index) __atomic_load_n(&(index), __ATOMIC_SEQ_CST)
#define SET(index, value) __atomic_store_n(&(index), value, __ATOMIC_SEQ_CST)

static uint32_t count, sent, received;

static void fail(const char *what, int line)
{
    fprintf(stderr, "line %d: not so: %s\n", line, what);
    exit(1);
}

static uint8_t byte_of(uint32_t number)
{
    return (number * 2654435761u) >> 24;
}

static uint32_t chance(uint32_t below)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static void check(const uint8_t *bytes, uint32_t length)
{
    CHECK(received + length <= count);
    for (uint32_t i = 0; i < length; i++)
        CHECK(bytes[i] == byte_of(received++));
}

static uint32_t make(uint8_t *bytes, uint32_t room)
{
    uint32_t length = room == 0 ? 0 : 1 + chance(room);
    if (length > count - sent)
        length = count - sent;
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = byte_of(sent + i);
    sent += length;
    return length;
}

static uint32_t page_read(const char *ring, uint32_t size, uint32_t *cons, uint32_t *prod)
{
    uint32_t from = GET(*cons), to = GET(*prod);
    CHECK(to - from <= size);
    for (uint32_t at = from; at != to; at++)
        check((const uint8_t *)&ring[at & (size - 1)], 1);
    SET(*cons, to);
    return to - from;
}

static uint32_t page_write(char *ring, uint32_t size, uint32_t *cons, uint32_t *prod)
{
    uint8_t bytes[4096];
    uint32_t at = GET(*prod), used = at - GET(*cons);
    CHECK(used <= size);
    uint32_t length = make(bytes, size - used);
    for (uint32_t i = 0; i < length; i++)
        ring[(at + i) & (size - 1)] = bytes[i];
    SET(*prod, at + length);
    return length;
}

static uint32_t console_step(void *memory, int backend)
{
    struct xencons_interface *page = memory;
    CHECK(MASK_XENCONS_IDX(sizeof page->in + 1, page->in) == 1);
    if (backend)
        return page_read(page->out, sizeof page->out, &page->out_cons, &page->out_prod) +
               page_write(page->in, sizeof page->in, &page->in_cons, &page->in_prod);
    return page_read(page->in, sizeof page->in, &page->in_cons, &page->in_prod) +
           page_write(page->out, sizeof page->out, &page->out_cons, &page->out_prod);
}

static uint32_t xenstore_step(void *memory, int backend)
{
    struct xenstore_domain_interface *page = memory;
    CHECK(MASK_XENSTORE_IDX(sizeof page->req + 1) == 1 && MASK_XENSTORE_IDX(sizeof page->rsp + 1) == 1);
    if (backend)
        return page_read(page->req, sizeof page->req, &page->req_cons, &page->req_prod) +
               page_write(page->rsp, sizeof page->rsp, &page->rsp_cons, &page->rsp_prod);
    return page_read(page->rsp, sizeof page->rsp, &page->rsp_cons, &page->rsp_prod) +
           page_write(page->req, sizeof page->req, &page->req_cons, &page->req_prod);
}

static uint32_t flex_read(const unsigned char *ring, RING_IDX size, RING_IDX *cons, RING_IDX *prod)
{
    uint8_t *bytes = malloc(size);
    RING_IDX from = GET(*cons), to = GET(*prod), length = FLEX(queued)(to, from, size);
    CHECK(to - from <= size);
    RING_IDX masked = FLEX(mask)(from, size);
    FLEX(read_packet)(bytes, ring, length, FLEX(mask)(to, size), &masked, size);
    check(bytes, length);
    SET(*cons, from + length);
    free(bytes);
    return length;
}

static uint32_t flex_write(unsigned char *ring, RING_IDX size, RING_IDX *cons, RING_IDX *prod)
{
    uint8_t *bytes = malloc(size);
    RING_IDX at = GET(*prod), from = GET(*cons);
    CHECK(at - from <= size);
    uint32_t length = make(bytes, size - FLEX(queued)(at, from, size));
    RING_IDX masked = FLEX(mask)(at, size);
    FLEX(write_packet)(ring, bytes, length, &masked, FLEX(mask)(from, size), size);
    SET(*prod, at + length);
    free(bytes);
    return length;
}

static uint32_t flex_step(void *memory, int backend)
{
    struct FLEX(data_intf) *page = memory;
    unsigned char *in = (unsigned char *)memory + XC_PAGE_SIZE;
    RING_IDX size = XEN_FLEX_RING_SIZE(page->ring_order);
    if (backend)
        return flex_read(in + size, size, &page->out_cons, &page->out_prod) +
               flex_write(in, size, &page->in_cons, &page->in_prod);
    return flex_read(in, size, &page->in_cons, &page->in_prod) +
           flex_write(in + size, size, &page->out_cons, &page->out_prod);
}

int main(int argc, char **argv)
{
    CHECK(argc == 6);
    uint32_t (*step)(void *memory, int backend) = strcmp(argv[1], "flex") == 0       ? flex_step
                                                : strcmp(argv[1], "xenstore") == 0 ? xenstore_step
                                                                                   : console_step;
    int backend = strcmp(argv[2], "backend") == 0;
    size_t bytes = strtoul(argv[4], NULL, 10);
    count = strtoul(argv[5], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    int fd = open(argv[3], O_RDWR);
    CHECK(fd >= 0);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    char events[64];
    while (sent < count || received < count) {
        if (step(memory, backend) == 0)
            CHECK(read(0, events, sizeof events) > 0);
        else if (write(1, "!", 1) < 0)
            return sent < count || received < count;
    }
    return 0;
}
