/*
 * Preloaded under a genuine xenstored (C or OCaml), stands in for the hypervisor, so that the daemon serves its
 * Unix socket on any machine. For tests only.
 *
 * Everything is a file in $XENSTORED_RUNDIR:
 *   socket         where the daemon listens, also when another path is compiled into it
 *   events         a FIFO: the event channels of the daemon. Who writes a port number (u32) into it sends an event
 *   domN.page      the store page of domain N; the domain exists as long as the file does
 *   domN.dying     the domain is dying
 *   domN.port      written here: the daemon's port that domain N notifies
 *   domN.events    a FIFO that the domain reads: its own port number (u32) for each event from the daemon
 *   virq.port      written here: the port of VIRQ_DOM_EXC, for "a domain died"
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenctrl.h>

#define PAGE_BYTES 4096
#define MAX_PORTS 4096
#define LAST_DOMAIN 0x7fef
#define COMPILED_IN_SOCKET "/run/xenstored/socket"

static int nothing;
static int events_fd = -1;
static struct { int domain; uint32_t remote; } ports[MAX_PORTS];
static unsigned int next_port = 1;

static const char *run_path(char *buffer, const char *format, ...)
{
    const char *directory = getenv("XENSTORED_RUNDIR");
    int length = snprintf(buffer, PATH_MAX, "%s/", directory ? directory : ".");
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(buffer + length, PATH_MAX - length, format, arguments);
    va_end(arguments);
    return buffer;
}

static int run_file_exists(const char *format, uint32_t domain)
{
    char path[PATH_MAX];
    return access(run_path(path, format, domain), F_OK) == 0;
}

static void write_number(const char *path, unsigned int number)
{
    FILE *file = fopen(path, "w");

    if (!file)
        return;
    fprintf(file, "%u", number);
    fclose(file);
}

typedef int (*open_function)(const char *, int, ...);

static int open_really(const char *path, int flags, mode_t mode)
{
    static open_function real;

    if (!real)
        real = (open_function)dlsym(RTLD_NEXT, "open");
    return real(path, flags, mode);
}

static void *map_page(uint32_t domain)
{
    char path[PATH_MAX];
    void *page = MAP_FAILED;
    int fd = open_really(run_path(path, "dom%u.page", domain), O_RDWR | (domain ? 0 : O_CREAT), 0600);

    if (fd < 0)
        return NULL;
    if (ftruncate(fd, PAGE_BYTES) == 0)
        page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

/* libxenctrl */

xc_interface *xc_interface_open(xentoollog_logger *log, xentoollog_logger *build_log, unsigned int flags)
{
    return (xc_interface *)&nothing;
}

int xc_interface_close(xc_interface *xch)
{
    return 0;
}

/* The first domain from `first` on; -1 when there is none. */
static int find_domain(uint32_t first)
{
    for (uint32_t domain = first; domain <= LAST_DOMAIN; domain++)
        if (domain == 0 || run_file_exists("dom%u.page", domain))
            return domain;
    return -1;
}

#if XEN_DOMCTL_INTERFACE_VERSION < 0x16 /* until Xen 4.17 */
int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int max, xc_dominfo_t *info)
{
    int domain = max ? find_domain(first) : -1;

    if (domain < 0)
        return 0;
    memset(info, 0, sizeof(*info));
    info->domid = domain;
    info->dying = run_file_exists("dom%u.dying", domain);
    return 1;
}
#endif

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int max, xc_domaininfo_t *info)
{
    int domain = max ? find_domain(first) : -1;

    if (domain < 0)
        return 0;
    memset(info, 0, sizeof(*info));
    info->domain = domain;
    if (run_file_exists("dom%u.dying", domain))
        info->flags |= XEN_DOMINF_dying;
    return 1;
}

#if XEN_DOMCTL_INTERFACE_VERSION >= 0x16
int xc_domain_getinfo_single(xc_interface *xch, uint32_t domain, xc_domaininfo_t *info)
{
    if (xc_domain_getinfolist(xch, domain, 1, info) == 1 && info->domain == domain)
        return 0;
    errno = ESRCH;
    return -1;
}
#endif

void *xc_map_foreign_range(xc_interface *xch, uint32_t domain, int size, int protection, unsigned long frame)
{
    return map_page(domain);
}

/* libxengnttab */

void *xengnttab_open(void *log, unsigned int flags)
{
    return &nothing;
}

int xengnttab_close(void *handle)
{
    return 0;
}

int xengnttab_set_max_grants(void *handle, uint32_t count)
{
    return 0;
}

void *xengnttab_map_grant_ref(void *handle, uint32_t domain, uint32_t reference, int protection)
{
    return map_page(domain);
}

int xengnttab_unmap(void *handle, void *address, uint32_t count)
{
    return munmap(address, (size_t)count * PAGE_BYTES);
}

/* libxenevtchn */

void *xenevtchn_open(void *log, unsigned int flags)
{
    char path[PATH_MAX];

    run_path(path, "events");
    if (mkfifo(path, 0600) < 0 && errno != EEXIST)
        return NULL;
    events_fd = open_really(path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
    return events_fd < 0 ? NULL : &nothing;
}

void *xenevtchn_fdopen(void *log, int fd, unsigned int flags)
{
    events_fd = fd;
    return &nothing;
}

int xenevtchn_close(void *handle)
{
    return 0;
}

int xenevtchn_fd(void *handle)
{
    return events_fd;
}

static int new_port(int domain, uint32_t remote)
{
    if (next_port == MAX_PORTS) {
        errno = ENOSPC;
        return -1;
    }
    ports[next_port].domain = domain;
    ports[next_port].remote = remote;
    return next_port++;
}

int xenevtchn_bind_virq(void *handle, unsigned int virq)
{
    char path[PATH_MAX];
    int port = new_port(-1, 0);

    write_number(run_path(path, "virq.port"), port);
    return port;
}

int xenevtchn_bind_interdomain(void *handle, uint32_t domain, uint32_t remote)
{
    char path[PATH_MAX];
    int port = new_port(domain, remote);

    if (port >= 0)
        write_number(run_path(path, "dom%u.port", domain), port);
    return port;
}

int xenevtchn_unbind(void *handle, uint32_t port)
{
    ports[port].domain = -1;
    return 0;
}

int xenevtchn_notify(void *handle, uint32_t port)
{
    char path[PATH_MAX];
    uint32_t remote = ports[port].remote;
    int fd;

    if (ports[port].domain < 0)
        return 0;
    fd = open_really(run_path(path, "dom%d.events", ports[port].domain), O_WRONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return 0;
    if (write(fd, &remote, sizeof(remote)) < 0)
        errno = 0; /* The reader is behind: it will look at the whole ring anyway. */
    close(fd);
    return 0;
}

int xenevtchn_pending(void *handle)
{
    uint32_t port;

    return read(events_fd, &port, sizeof(port)) == sizeof(port) ? (int)port : -1;
}

int xenevtchn_unmask(void *handle, uint32_t port)
{
    return 0;
}

/* libc: the kernel's files about domain 0, the socket's place, limits that need privileges */

static int open_redirected(const char *path, int flags, mode_t mode)
{
    char replaced[PATH_MAX];
    int fd;

    if (!strcmp(path, "/proc/xen/xsd_kva") || !strcmp(path, "/dev/xen/xenbus_backend")) {
        fd = open_really(run_path(replaced, "dom0.page"), O_RDWR | O_CREAT, 0600);
        if (fd >= 0 && ftruncate(fd, PAGE_BYTES) < 0)
            return -1;
        return fd;
    }
    if (!strcmp(path, "/proc/xen/xsd_port")) {
        write_number(run_path(replaced, "dom0.remote"), 1);
        return open_really(replaced, O_RDONLY, 0);
    }
    return open_really(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode = 0;

    va_start(arguments, flags);
    if (flags & O_CREAT)
        mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open_redirected(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode = 0;

    va_start(arguments, flags);
    if (flags & O_CREAT)
        mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open_redirected(path, flags, mode);
}

static const char *socket_path(char *buffer, const char *path)
{
    size_t length = strlen(path), compiled = strlen(COMPILED_IN_SOCKET);

    /* /run and /var/run are the same place. */
    if (length < compiled || strcmp(path + length - compiled, COMPILED_IN_SOCKET) != 0)
        return path;
    return run_path(buffer, "socket");
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    char buffer[PATH_MAX];

    if (address->sa_family != AF_UNIX)
        return real(fd, address, length);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s",
             socket_path(buffer, ((const struct sockaddr_un *)address)->sun_path));
    return real(fd, (struct sockaddr *)&local, sizeof(local));
}

int unlink(const char *path)
{
    int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
    char buffer[PATH_MAX];

    return real(socket_path(buffer, path));
}

int chmod(const char *path, mode_t mode)
{
    int (*real)(const char *, mode_t) = dlsym(RTLD_NEXT, "chmod");
    char buffer[PATH_MAX];

    return real(socket_path(buffer, path), mode);
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    return 0;
}
