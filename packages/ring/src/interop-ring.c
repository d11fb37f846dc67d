/*
 * A ring of its own making, for testing ours against it: both ends of a shared ring in a file, written from what
 * io/ring.h says about the layout and the hold-off, sharing no code with the packages.
 *
 *   interop-ring front|back FILE BYTES SLOT_BYTES START COUNT
 *
 * START is where all indices begin, COUNT how many requests are exchanged. An event is a byte on standard output, a
 * wake-up is one on standard input. Every word of a request says which request and which word it is; the response
 * says it back mixed. Responses come in any order. Exits with 1 and a message when anything is wrong.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct header {
    uint32_t req_prod, req_event, rsp_prod, rsp_event;
    uint8_t rest[48];
};

static struct header *shared;
static uint32_t slots, slot_bytes, start, count;

#define GET(field) __atomic_load_n(&shared->field, __ATOMIC_SEQ_CST)
#define SET(field, value) __atomic_store_n(&shared->field, value, __ATOMIC_SEQ_CST)
#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)

static void fail(const char *what, int line)
{
    fprintf(stderr, "line %d: not so: %s\n", line, what);
    exit(1);
}

static uint32_t *slot(uint32_t index)
{
    return (uint32_t *)((uint8_t *)shared + sizeof(struct header) + (size_t)(index & (slots - 1)) * slot_bytes);
}

static uint32_t mixed(uint32_t number, uint32_t word)
{
    return (number * 2654435761u) ^ (word * 40503u);
}

static uint32_t chance(uint32_t below)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static void notify(void)
{
    char event = '!';
    if (write(1, &event, 1) < 0)
        return; /* The peer has all it wanted. */
}

static void sleep_until_woken(void)
{
    char events[64];
    CHECK(read(0, events, sizeof events) > 0);
}

static int wants_event(uint32_t old, uint32_t now, uint32_t event)
{
    return (uint32_t)(now - event) < (uint32_t)(now - old);
}

static void run_front(void)
{
    uint32_t sent = 0, answered = 0, shown = 0, taken = 0;
    uint8_t *seen = calloc(count, 1);
    memset(shared, 0, sizeof *shared);
    SET(req_prod, start);
    SET(rsp_prod, start);
    SET(req_event, start + 1);
    SET(rsp_event, start + 1);
    notify();
    while (answered < count) {
        uint32_t burst = 1 + chance(slots);
        while (burst-- && sent < count && sent - answered < slots) {
            uint32_t *words = slot(start + sent);
            words[0] = sent;
            for (uint32_t i = 1; i < slot_bytes / 4; i++)
                words[i] = mixed(sent, i);
            sent++;
        }
        if (sent != shown) {
            SET(req_prod, start + sent);
            if (wants_event(start + shown, start + sent, GET(req_event)))
                notify();
            shown = sent;
        }
        uint32_t rsp_prod = GET(rsp_prod);
        CHECK((uint32_t)(rsp_prod - start - taken) <= sent - answered);
        for (; start + taken != rsp_prod; taken++) {
            uint32_t *words = slot(start + taken);
            CHECK(words[0] < sent && !seen[words[0]]);
            for (uint32_t i = 1; i < 4; i++)
                CHECK(words[i] == ~mixed(words[0], i));
            seen[words[0]] = 1;
            answered++;
        }
        if (answered < count && (sent == count || sent - answered == slots)) {
            SET(rsp_event, start + taken + 1);
            if (GET(rsp_prod) == start + taken)
                sleep_until_woken();
        }
    }
}

static void run_back(void)
{
    uint32_t taken = 0, answered = 0, shown = 0, held_count = 0;
    uint32_t *held = calloc(slots, sizeof *held);
    while (answered < count) {
        uint32_t req_prod = GET(req_prod);
        CHECK((uint32_t)(req_prod - start - answered) <= slots);
        for (; start + taken != req_prod; taken++) {
            uint32_t *words = slot(start + taken);
            CHECK(words[0] == taken);
            for (uint32_t i = 1; i < slot_bytes / 4; i++)
                CHECK(words[i] == mixed(taken, i));
            held[held_count++] = taken;
        }
        uint32_t burst = 1 + chance(slots);
        while (burst-- && held_count > 0) {
            uint32_t pick = chance(held_count), number = held[pick];
            held[pick] = held[--held_count];
            uint32_t *words = slot(start + answered);
            words[0] = number;
            for (uint32_t i = 1; i < 4; i++)
                words[i] = ~mixed(number, i);
            answered++;
        }
        if (answered != shown) {
            SET(rsp_prod, start + answered);
            if (wants_event(start + shown, start + answered, GET(rsp_event)))
                notify();
            shown = answered;
        }
        if (answered < count && held_count == 0) {
            SET(req_event, start + taken + 1);
            if (GET(req_prod) == start + taken)
                sleep_until_woken();
        }
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 7);
    uint32_t bytes = strtoul(argv[3], NULL, 10);
    slot_bytes = strtoul(argv[4], NULL, 10);
    start = strtoul(argv[5], NULL, 10);
    count = strtoul(argv[6], NULL, 10);
    for (slots = 1; slots * 2 * slot_bytes <= bytes - sizeof(struct header);)
        slots *= 2;
    signal(SIGPIPE, SIG_IGN);
    int fd = open(argv[2], O_RDWR);
    CHECK(fd >= 0);
    shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED);
    if (strcmp(argv[1], "front") == 0)
        run_front();
    else
        run_back();
    return 0;
}
