/*
 * Events by Xen's own header, for testing ours against them: one end of a keyboard's page, with the structures and the
 * macros of io/kbdif.h.
 *
 *   interop-events guest|backend FILE COUNT MOST
 *
 * COUNT events go each way, MOST of them at most wait to be taken, and what event n must be follows from n. An event is a
 * byte on standard output, a wake-up is one on standard input. Exits with 1 and a message when anything is wrong.
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
#include <xen/io/kbdif.h>

#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)
#define GET(index) __atomic_load_n(&(index), __ATOMIC_SEQ_CST)
#define SET(index, value) __atomic_store_n(&(index), value, __ATOMIC_SEQ_CST)

static void fail(const char *what, int line)
{
    fprintf(stderr, "line %d: not so: %s\n", line, what);
    exit(1);
}

/* The members of an event to the guest; those of one from it are not defined yet, so they are its words. */
static void check_in(const union xenkbd_in_event *event, uint32_t number)
{
    CHECK(event->type == XENKBD_TYPE_POS);
    CHECK(event->pos.abs_x == (int32_t)number && event->pos.abs_y == (int32_t)~number);
    CHECK(event->pos.rel_z == 7 && event->pad[XENKBD_IN_EVENT_SIZE - 1] == 0);
}

static void make_in(union xenkbd_in_event *event, uint32_t number)
{
    memset(event, 0, sizeof *event);
    event->pos = (struct xenkbd_position){ XENKBD_TYPE_POS, (int32_t)number, (int32_t)~number, 7 };
}

static void check_out(const union xenkbd_out_event *event, uint32_t number)
{
    uint32_t words[XENKBD_OUT_EVENT_SIZE / 4];
    memcpy(words, event, sizeof words);
    CHECK(words[0] == number && words[XENKBD_OUT_EVENT_SIZE / 4 - 1] == ~number);
}

static void make_out(union xenkbd_out_event *event, uint32_t number)
{
    uint32_t words[XENKBD_OUT_EVENT_SIZE / 4] = { number };
    words[XENKBD_OUT_EVENT_SIZE / 4 - 1] = ~number;
    memcpy(event, words, sizeof words);
}

int main(int argc, char **argv)
{
    CHECK(argc == 5);
    int backend = strcmp(argv[1], "backend") == 0;
    uint32_t count = strtoul(argv[3], NULL, 10), sent = 0, received = 0;
    signal(SIGPIPE, SIG_IGN);
    int fd = open(argv[2], O_RDWR);
    CHECK(fd >= 0);
    struct xenkbd_page *page = mmap(NULL, XC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(page != MAP_FAILED);
    uint32_t *put_prod = backend ? &page->in_prod : &page->out_prod, *put_cons = backend ? &page->in_cons : &page->out_cons;
    uint32_t *take_prod = backend ? &page->out_prod : &page->in_prod, *take_cons = backend ? &page->out_cons : &page->in_cons;
    uint32_t room = backend ? XENKBD_IN_RING_LEN : XENKBD_OUT_RING_LEN, most = strtoul(argv[4], NULL, 10);
    if (room > most)
        room = most;
    while (sent < count || received < count) {
        uint32_t moved = 0, at, used;
        for (at = GET(*take_cons); at != GET(*take_prod); SET(*take_cons, ++at), moved++, received++)
            if (backend)
                check_out(&XENKBD_OUT_RING_REF(page, at), received);
            else
                check_in(&XENKBD_IN_RING_REF(page, at), received);
        for (at = GET(*put_prod); sent < count && (used = at - GET(*put_cons)) < room; SET(*put_prod, ++at), moved++, sent++)
            if (backend)
                make_in(&XENKBD_IN_RING_REF(page, at), sent);
            else
                make_out(&XENKBD_OUT_RING_REF(page, at), sent);
        char events[64];
        if (moved == 0)
            CHECK(read(0, events, sizeof events) > 0);
        else if (write(1, "!", 1) < 0)
            return sent < count || received < count;
    }
    return 0;
}
