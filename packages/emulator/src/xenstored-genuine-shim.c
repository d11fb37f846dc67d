/*
 * Lets the genuine C xenstored run on a machine without Xen, for the tests that compare the emulated one with it:
 * cc -shared -fPIC -o shim.so xenstored-genuine-shim.c -lpthread -ldl, then LD_PRELOAD=shim.so SHIM_DIR=... xenstored -N.
 * SPDX-License-Identifier: MIT
 *
 * It stands in for the parts of libxenctrl, libxengnttab and libxenevtchn that the daemon uses. In $SHIM_DIR, a domain
 * N exists while there is a file "domN". Once it has been introduced, whoever connects to the socket "domN.sock" speaks
 * to the daemon through the domain's ring, as that domain. Connecting to "virq.sock" raises VIRQ_DOM_EXC.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenctrl.h>

#define MAX_PORTS 4096
#define RING 1024u

struct page {
	uint8_t req[RING], rsp[RING];
	volatile uint32_t req_cons, req_prod, rsp_cons, rsp_prod;
};

struct guest {
	uint32_t domid;
	struct page *page;
	int wake, listener, client;
	volatile int port, dead;
};

static int token;
static int event_pipe[2] = { -1, -1 };
static struct guest *guest_of_port[MAX_PORTS];
static struct guest *guest_of_domid[0x7ff0];
static int next_port = 1;

static const char *in_dir(char *to, const char *name)
{
	const char *dir = getenv("SHIM_DIR");

	snprintf(to, 200, "%s/%s", dir ? dir : ".", name);
	return to;
}

static int listen_at(const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char path[200];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", in_dir(path, name));
	unlink(at.sun_path);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 5))
		perror(at.sun_path);
	return fd;
}

static void raise_event(uint32_t port)
{
	if (port && write(event_pipe[1], &port, sizeof port) != sizeof port)
		perror("event");
}

/* Moves bytes between a guest's client and its ring until nothing moves. */
static void shovel(struct guest *g)
{
	struct page *p = g->page;
	uint8_t byte[RING];
	int moved = 1;

	while (moved && g->client >= 0) {
		uint32_t room = RING - (p->req_prod - p->req_cons), filled, i;
		ssize_t n = room ? recv(g->client, byte, room, MSG_DONTWAIT) : -1;

		moved = 0;
		if (room && (n == 0 || (n < 0 && errno != EAGAIN))) {
			close(g->client);
			g->client = -1;
			return;
		}
		for (i = 0; n > 0 && i < (uint32_t)n; i++)
			p->req[(p->req_prod + i) % RING] = byte[i];
		__sync_synchronize();
		if (n > 0)
			p->req_prod += n;
		filled = p->rsp_prod - p->rsp_cons;
		__sync_synchronize();
		for (i = 0; i < filled; i++)
			byte[i] = p->rsp[(p->rsp_cons + i) % RING];
		if (filled)
			send(g->client, byte, filled, MSG_NOSIGNAL);
		__sync_synchronize();
		p->rsp_cons += filled;
		if (n > 0 || filled) {
			moved = 1;
			raise_event(g->port);
		}
	}
}

static void *serve_guest(void *arg)
{
	struct guest *g = arg;

	while (!g->dead) {
		int full = g->page->req_prod - g->page->req_cons == RING;
		struct pollfd fds[3] = { { g->wake, POLLIN, 0 }, { g->listener, POLLIN, 0 },
					 { full ? -1 : g->client, POLLIN, 0 } };
		uint64_t count;

		poll(fds, 3, -1);
		if (fds[0].revents && read(g->wake, &count, sizeof count) < 0)
			perror("wake");
		if (fds[1].revents) {
			if (g->client >= 0)
				close(g->client);
			g->client = accept(g->listener, NULL, NULL);
		}
		shovel(g);
	}
	close(g->listener);
	if (g->client >= 0)
		close(g->client);
	return NULL;
}

static void *serve_virq(void *arg)
{
	int listener = listen_at("virq.sock"), fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		raise_event((uint32_t)(uintptr_t)arg);
		close(fd);
	}
	return NULL;
}

xc_interface *xc_interface_open(xentoollog_logger *a, xentoollog_logger *b, unsigned c) { return (xc_interface *)&token; }
int xc_interface_close(xc_interface *xch) { return 0; }

int xc_domain_getinfo(xc_interface *xch, uint32_t domid, unsigned int max, xc_dominfo_t *info)
{
	char name[32], path[200];

	memset(info, 0, sizeof *info);
	snprintf(name, sizeof name, "dom%u", domid);
	if (domid && access(in_dir(path, name), F_OK))
		return 0;
	info->domid = domid;
	return 1;
}

void *xengnttab_open(void *logger, unsigned flags) { return &token; }
int xengnttab_close(void *handle) { return 0; }
int xengnttab_set_max_grants(void *handle, uint32_t count) { return 0; }

static void *new_page(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

void *xengnttab_map_grant_ref(void *handle, uint32_t domid, uint32_t ref, int prot)
{
	struct guest *g;
	pthread_t thread;
	char name[32], path[200];

	snprintf(name, sizeof name, "dom%u", domid);
	if (domid >= 0x7ff0 || access(in_dir(path, name), F_OK)) {
		errno = EINVAL;
		return NULL;
	}
	g = calloc(1, sizeof *g);
	g->domid = domid;
	g->page = new_page();
	g->client = -1;
	g->wake = eventfd(0, EFD_CLOEXEC);
	snprintf(name, sizeof name, "dom%u.sock", domid);
	g->listener = listen_at(name);
	guest_of_domid[domid] = g;
	pthread_create(&thread, NULL, serve_guest, g);
	pthread_detach(thread);
	return g->page;
}

int xengnttab_unmap(void *handle, void *address, uint32_t count)
{
	uint64_t one = 1;

	for (int i = 0; i < 0x7ff0; i++)
		if (guest_of_domid[i] && guest_of_domid[i]->page == address) {
			guest_of_domid[i]->dead = 1;
			if (write(guest_of_domid[i]->wake, &one, sizeof one) < 0)
				perror("wake");
			guest_of_domid[i] = NULL;
		}
	return 0;
}

void *xenevtchn_open(void *logger, unsigned flags)
{
	if (pipe2(event_pipe, O_CLOEXEC))
		return NULL;
	return &token;
}
int xenevtchn_close(void *handle) { return 0; }
int xenevtchn_fd(void *handle) { return event_pipe[0]; }

int xenevtchn_bind_virq(void *handle, unsigned virq)
{
	pthread_t thread;
	int port = next_port++;

	pthread_create(&thread, NULL, serve_virq, (void *)(uintptr_t)port);
	return port;
}

int xenevtchn_bind_interdomain(void *handle, uint32_t domid, uint32_t remote)
{
	int port = next_port++ % MAX_PORTS;

	guest_of_port[port] = domid < 0x7ff0 ? guest_of_domid[domid] : NULL;
	if (guest_of_port[port])
		guest_of_port[port]->port = port;
	return port;
}

int xenevtchn_unbind(void *handle, uint32_t port)
{
	if (port < MAX_PORTS)
		guest_of_port[port] = NULL;
	return 0;
}

int xenevtchn_notify(void *handle, uint32_t port)
{
	uint64_t one = 1;
	struct guest *g = port < MAX_PORTS ? guest_of_port[port] : NULL;

	return g && write(g->wake, &one, sizeof one) < 0 ? -1 : 0;
}

int xenevtchn_pending(void *handle)
{
	uint32_t port;

	return read(event_pipe[0], &port, sizeof port) == sizeof port ? (int)port : -1;
}
int xenevtchn_unmask(void *handle, uint32_t port) { return 0; }

/* The daemon maps domain 0's ring from one of these and reads its port from the other. */
int open(const char *path, int flags, ...)
{
	int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	va_list args;
	int fd, mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	if (!strcmp(path, "/proc/xen/xsd_kva") || !strcmp(path, "/dev/xen/xsd_kva")) {
		fd = memfd_create("xsd_kva", 0);
		if (fd >= 0 && ftruncate(fd, 4096))
			perror("xsd_kva");
		return fd;
	}
	if (!strcmp(path, "/proc/xen/xsd_port")) {
		fd = memfd_create("xsd_port", 0);
		if (fd >= 0 && write(fd, "1", 1) == 1)
			lseek(fd, 0, SEEK_SET);
		return fd;
	}
	return real(path, flags, mode);
}
