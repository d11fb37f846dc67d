/*
 * Events by Xen's own headers, for testing ours against them: one end of a page, with the structures and the macros of
 * io/kbdif.h, or, where it is compiled with -DFRAMEBUFFER, -DDISPLAY or -DSOUND, of io/fbif.h, io/displif.h or
 * io/sndif.h. The last two have events to the guest only.
 *
 *   interop-events guest|backend FILE COUNT MOST
 *
 * COUNT events go each way that there is, MOST of them at most wait to be taken, and what event n must be follows from
 * n. An event is a byte on standard output, a wake-up is one on standard input. Exits with 1 and a message when anything
 * is wrong.
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

#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)
#define GET(index) __atomic_load_n(&(index), __ATOMIC_SEQ_CST)
#define SET(index, value) __atomic_store_n(&(index), value, __ATOMIC_SEQ_CST)

static void fail(const char *what, int line)
{
    fprintf(stderr, "line %d: not so: %s\n", line, what);
    exit(1);
}

/* Per header: its page, its rings, and what the members of event number n are. */
#if defined(FRAMEBUFFER)
#include <xen/io/fbif.h>
#define PAGE struct xenfb_page
#define IN_EVENT union xenfb_in_event
#define IN_LENGTH XENFB_IN_RING_LEN
#define IN_AT XENFB_IN_RING_REF
#define OUT_EVENT union xenfb_out_event
#define OUT_LENGTH XENFB_OUT_RING_LEN
#define OUT_AT XENFB_OUT_RING_REF

static void make_in(IN_EVENT *event, uint32_t number)
{
    event->refresh_period = (struct xenfb_refresh_period){ XENFB_TYPE_REFRESH_PERIOD, number };
}

static void make_out(OUT_EVENT *event, uint32_t number)
{
    event->resize = (struct xenfb_resize){ XENFB_TYPE_RESIZE, (int32_t)number, (int32_t)~number, 5, 32, -9 };
}
#elif defined(DISPLAY)
#include <xen/io/displif.h>
#define PAGE struct xendispl_event_page
#define IN_EVENT struct xendispl_evt
#define IN_LENGTH XENDISPL_IN_RING_LEN
#define IN_AT XENDISPL_IN_RING_REF

static void make_in(IN_EVENT *event, uint32_t number)
{
    event->id = number;
    event->type = XENDISPL_EVT_PG_FLIP;
    event->op.pg_flip.fb_cookie = (uint64_t)~number << 32 | number;
}
#elif defined(SOUND)
#include <xen/io/sndif.h>
#define PAGE struct xensnd_event_page
#define IN_EVENT struct xensnd_evt
#define IN_LENGTH XENSND_IN_RING_LEN
#define IN_AT XENSND_IN_RING_REF

static void make_in(IN_EVENT *event, uint32_t number)
{
    event->id = number;
    event->type = XENSND_EVT_CUR_POS;
    event->op.cur_pos.position = (uint64_t)~number << 32 | number;
}
#else
#include <xen/io/kbdif.h>
#define PAGE struct xenkbd_page
#define IN_EVENT union xenkbd_in_event
#define IN_LENGTH XENKBD_IN_RING_LEN
#define IN_AT XENKBD_IN_RING_REF
#define OUT_EVENT union xenkbd_out_event
#define OUT_LENGTH XENKBD_OUT_RING_LEN
#define OUT_AT XENKBD_OUT_RING_REF

static void make_in(IN_EVENT *event, uint32_t number)
{
    event->pos = (struct xenkbd_position){ XENKBD_TYPE_POS, (int32_t)number, (int32_t)~number, 7 };
}

/* Events from the guest are not defined yet, so they are their words. */
static void make_out(OUT_EVENT *event, uint32_t number)
{
    uint32_t last = ~number;
    memcpy(event->pad, &number, sizeof number);
    memcpy(event->pad + sizeof event->pad - sizeof last, &last, sizeof last);
}
#endif

#define MOVES(way, EVENT, AT) \
    static void put_##way(PAGE *page, uint32_t at, uint32_t number) \
    { \
        memset(&AT(page, at), 0, sizeof(EVENT)); \
        make_##way(&AT(page, at), number); \
    } \
    static void take_##way(PAGE *page, uint32_t at, uint32_t number) \
    { \
        EVENT event; \
        memset(&event, 0, sizeof event); \
        make_##way(&event, number); \
        CHECK(memcmp(&event, &AT(page, at), sizeof event) == 0); \
    }

typedef void move(PAGE *page, uint32_t at, uint32_t number);

/* A direction: its indices, how many events it holds, and how many go through it. */
struct way {
    uint32_t *prod, *cons, length, count;
    move *put, *take;
};

MOVES(in, IN_EVENT, IN_AT)
static struct way way_in(PAGE *page, uint32_t count)
{
    return (struct way){ &page->in_prod, &page->in_cons, IN_LENGTH, count, put_in, take_in };
}

#ifdef OUT_EVENT
MOVES(out, OUT_EVENT, OUT_AT)
static struct way way_out(PAGE *page, uint32_t count)
{
    return (struct way){ &page->out_prod, &page->out_cons, OUT_LENGTH, count, put_out, take_out };
}
#else
static struct way way_out(PAGE *page, uint32_t count)
{
    static uint32_t none;
    (void)page, (void)count;
    return (struct way){ &none, &none, 0, 0, NULL, NULL };
}
#endif

int main(int argc, char **argv)
{
    CHECK(argc == 5);
    int backend = strcmp(argv[1], "backend") == 0;
    uint32_t count = strtoul(argv[3], NULL, 10), sent = 0, received = 0;
    signal(SIGPIPE, SIG_IGN);
    int fd = open(argv[2], O_RDWR);
    CHECK(fd >= 0);
    PAGE *page = mmap(NULL, XC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(page != MAP_FAILED);
    struct way in = way_in(page, count), out = way_out(page, count);
    struct way puts = backend ? in : out, takes = backend ? out : in;
    uint32_t most = strtoul(argv[4], NULL, 10), room = puts.length < most ? puts.length : most;
    while (sent < puts.count || received < takes.count) {
        uint32_t moved = 0, at;
        for (at = GET(*takes.cons); at != GET(*takes.prod); SET(*takes.cons, ++at), moved++)
            takes.take(page, at, received++);
        for (at = GET(*puts.prod); sent < puts.count && at - GET(*puts.cons) < room; SET(*puts.prod, ++at), moved++)
            puts.put(page, at, sent++);
        char events[64];
        if (moved == 0)
            CHECK(read(0, events, sizeof events) > 0);
        else if (write(1, "!", 1) < 0)
            return sent < puts.count || received < takes.count;
    }
    return 0;
}
