/*
 * What libxenstore does, one request after the other: xenstore-serial MODE COUNT prints the nanoseconds for one.
 * MODE: read, write, transaction (read, modify, write, commit), watch (write to a watched node until the event is here).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xenstore.h>

#define NODE "/bench/node"

static void check(int okay, const char *what)
{
    if (okay)
        return;
    perror(what);
    exit(1);
}

static void read_once(struct xs_handle *store)
{
    unsigned int length;
    char *value = xs_read(store, XBT_NULL, NODE, &length);

    check(value != NULL, "read");
    free(value);
}

static void write_once(struct xs_handle *store)
{
    check(xs_write(store, XBT_NULL, NODE, "0123456789", 10), "write");
}

static void transact_once(struct xs_handle *store)
{
    unsigned int length;
    xs_transaction_t transaction = xs_transaction_start(store);
    char *value = xs_read(store, transaction, NODE, &length);
    char next[16];

    check(value != NULL, "read");
    snprintf(next, sizeof(next), "%d", (atoi(value) + 1) % 1000000);
    free(value);
    check(xs_write(store, transaction, NODE, next, strlen(next)), "write");
    check(xs_transaction_end(store, transaction, 0), "commit");
}

static void take_event(struct xs_handle *store)
{
    unsigned int count;
    char **event = xs_read_watch(store, &count);

    check(event != NULL, "event");
    free(event);
}

static void watch_once(struct xs_handle *store)
{
    write_once(store);
    take_event(store);
}

int main(int argc, char **argv)
{
    struct xs_handle *store = xs_open(0);
    void (*once)(struct xs_handle *) = NULL;
    struct timespec from, to;
    long count;

    if (argc != 3)
        return 2;
    count = atol(argv[2]);
    check(store != NULL, "xs_open");
    write_once(store);
    if (!strcmp(argv[1], "read"))
        once = read_once;
    else if (!strcmp(argv[1], "write"))
        once = write_once;
    else if (!strcmp(argv[1], "transaction"))
        once = transact_once;
    else if (!strcmp(argv[1], "watch")) {
        once = watch_once;
        check(xs_watch(store, NODE, "token"), "watch");
        take_event(store);
    }
    if (!once || count < 1)
        return 2;
    for (long i = 0; i < count / 10; i++)
        once(store);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (long i = 0; i < count; i++)
        once(store);
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%.0f\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / count);
    xs_close(store);
    return 0;
}
