// Stands in for Linux's /dev/xen devices, below FAKE_XEN_DIRECTORY where empty files have their names, in a process
// that is started with this library in LD_PRELOAD: one domain, number 0, that binds its own event channels and maps its own grants. Written from the kernel's interfaces alone
// (include/uapi/xen/{evtchn,gntdev,gntalloc}.h), so that it checks the layouts that the package sends.
// FAKE_XEN_DENY=path:errno makes opening that path fail. It is a libxenforeignmemory as well, of a domain 1 that has
// frames 0 to 255.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 256, PORTS = 4096, FDS = 4096, MAPS = 256, FIRST_REF = 8 };

enum kind { NOT_OURS, EVTCHN, GNTDEV, GNTALLOC, PRIVCMD, XENBUS };

struct file {
  enum kind kind;
  int peer;  // the kernel's end
};

struct port {
  int fd;  // 0: free
  uint32_t remote;
  int masked, pending;
};

struct grant {
  int used, writable, domid, mapped, fd;
};

struct map {
  int used, mapped, fd;
  uint32_t count;
  uint64_t index;
  uint32_t refs[64];
};

static struct file files[FDS];
static struct port ports[PORTS];
static struct grant grants[PAGES];
static struct map maps[MAPS];
static int memory_fd = -1;
static uint8_t* memory;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int fail(int error) {
  errno = error;
  return -1;
}

static struct file* file_of(int fd) {
  static struct file none;
  return fd >= 0 && fd < FDS ? &files[fd] : &none;
}

static void make_memory(void) {
  if (memory != NULL) return;
  memory_fd = memfd_create("fake-xen", MFD_CLOEXEC);
  if (ftruncate(memory_fd, PAGES * PAGE) < 0) abort();
  memory = (uint8_t*)syscall(SYS_mmap, NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0L);
}

static enum kind kind_of(const char* path) {
  static const char* const names[] = {"", "evtchn", "gntdev", "gntalloc", "privcmd", "xenbus"};
  const char* directory = getenv("FAKE_XEN_DIRECTORY");
  size_t length = directory == NULL ? 0 : strlen(directory);
  if (length == 0 || strncmp(path, directory, length) != 0 || path[length] != '/') return NOT_OURS;
  for (int kind = EVTCHN; kind <= XENBUS; kind++)
    if (strcmp(path + length + 1, names[kind]) == 0) return (enum kind)kind;
  return NOT_OURS;
}

static int denied(const char* path) {
  const char* deny = getenv("FAKE_XEN_DENY");
  size_t length = strlen(path);
  if (deny == NULL || strncmp(deny, path, length) != 0 || deny[length] != ':') return 0;
  return atoi(deny + length + 1);
}

static int open_device(const char* path, enum kind kind, int flags) {
  int ends[2];
  if (denied(path)) return fail(denied(path));
  make_memory();
  if (kind == GNTALLOC) {
    int fd = fcntl(memory_fd, F_DUPFD_CLOEXEC, 0);
    files[fd] = (struct file){kind, -1};
    return fd;
  }
  if (kind == EVTCHN ? pipe2(ends, O_CLOEXEC | (flags & O_NONBLOCK)) < 0
                     : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (flags & O_NONBLOCK), 0, ends) < 0)
    return -1;
  files[ends[0]] = (struct file){kind, ends[1]};
  return ends[0];
}

static void raise_port(uint32_t port) {
  struct port* p = &ports[port];
  p->pending = 1;
  if (p->masked || p->fd == 0) return;
  p->masked = 1;
  p->pending = 0;
  if (syscall(SYS_write, files[p->fd].peer, &port, sizeof port) != sizeof port) abort();
}

static void unbind(uint32_t port) {
  uint32_t remote = ports[port].remote;
  ports[port] = (struct port){0};
  if (remote != 0 && ports[remote].remote == port) ports[remote].remote = 0;
}

static int bind_port(int fd, uint32_t remote) {
  for (uint32_t port = 1; port < PORTS; port++) {
    if (ports[port].fd != 0) continue;
    ports[port] = (struct port){fd, remote, 0, 0};
    return (int)port;
  }
  return fail(ENOSPC);
}

static int evtchn_ioctl(int fd, unsigned long request, uint32_t* words) {
  uint32_t port = words[0];
  switch (request) {
    case 0x84501: {  // bind interdomain
      if (words[0] != 0) return fail(ESRCH);
      if (words[1] >= PORTS || ports[words[1]].fd == 0 || ports[words[1]].remote != 0) return fail(EINVAL);
      int local = bind_port(fd, words[1]);
      if (local < 0) return local;
      ports[words[1]].remote = (uint32_t)local;
      raise_port((uint32_t)local);
      return local;
    }
    case 0x44502:  // bind unbound port
      return words[0] == 0 ? bind_port(fd, 0) : fail(ESRCH);
    case 0x44503:  // unbind
      if (port >= PORTS) return fail(EINVAL);
      if (ports[port].fd != fd) return fail(ENOTCONN);
      unbind(port);
      return 0;
    case 0x44504:  // notify
      if (port >= PORTS || ports[port].fd != fd) return fail(ENOTCONN);
      if (ports[port].remote != 0) raise_port(ports[port].remote);
      return 0;
  }
  return fail(ENOTTY);
}

struct segment {
  union side {
    uint8_t* address;
    struct {
      uint32_t ref;
      uint16_t offset, domid;
    } grant;
  } source, dest;
  uint16_t length, flags;
  int16_t status;
};

// The grant that this domain may use, or NULL.
static struct grant* grant_of(uint32_t ref) {
  struct grant* grant = &grants[ref - FIRST_REF];
  return ref >= FIRST_REF && ref < FIRST_REF + PAGES && grant->used && grant->domid == 0 ? grant : NULL;
}

static uint8_t* page_of(uint32_t ref) { return memory + (size_t)(ref - FIRST_REF) * PAGE; }

static int grant_copy(const uint32_t* argument) {
  struct segment* segments = *(struct segment**)(argument + 2);
  for (uint32_t i = 0; i < argument[0]; i++) {
    struct segment* s = &segments[i];
    int from = s->flags & 1, to = s->flags & 2;
    union side* foreign = from ? &s->source : &s->dest;
    if (!from == !to || foreign->grant.offset + s->length > PAGE) return fail(EINVAL);
    struct grant* grant = grant_of(foreign->grant.ref);
    s->status = foreign->grant.domid != 0 ? -2 : grant == NULL ? -3 : to && !grant->writable ? -8 : 0;
    if (s->status != 0) continue;
    uint8_t* page = page_of(foreign->grant.ref) + foreign->grant.offset;
    struct iovec ours = {page, s->length};
    struct iovec local = {from ? s->dest.address : s->source.address, s->length};
    ssize_t copied = from ? process_vm_writev(getpid(), &ours, 1, &local, 1, 0)
                          : process_vm_readv(getpid(), &ours, 1, &local, 1, 0);
    if (copied != s->length) return fail(EFAULT);
  }
  return 0;
}

static void unmap(struct map* map) {
  for (uint32_t i = 0; map->mapped && i < map->count; i++) grants[map->refs[i] - FIRST_REF].mapped--;
  map->used = map->mapped = 0;
}

static int gntdev_ioctl(int fd, unsigned long request, uint32_t* words) {
  if (request == 0x104708) return grant_copy(words);
  if (request == 0x184700) {  // map grant reference
    for (int i = 0; i < MAPS; i++) {
      if (maps[i].used) continue;
      maps[i] = (struct map){1, 0, fd, words[0], (uint64_t)(i + 1) << 32, {0}};
      for (uint32_t j = 0; j < words[0]; j++) {
        if (j >= 64 || words[4 + 2 * j] != 0) return fail(EINVAL);
        maps[i].refs[j] = words[5 + 2 * j];
      }
      memcpy(words + 2, &maps[i].index, 8);
      return 0;
    }
    return fail(ENOMEM);
  }
  if (request == 0x104701) {  // unmap grant reference
    uint64_t index = *(uint64_t*)words;
    struct map* map = &maps[(index >> 32) - 1];
    if (!map->used || map->index != index || map->count != words[2]) return fail(ENOENT);
    unmap(map);
    return 0;
  }
  return fail(ENOTTY);
}

static void* map_grants(size_t length, int protection, uint64_t offset) {
  struct map* map = &maps[(offset >> 32) - 1];
  if (!map->used || map->count * (size_t)PAGE != length) return (void*)(intptr_t)fail(EINVAL);
  for (uint32_t i = 0; i < map->count; i++) {
    struct grant* grant = grant_of(map->refs[i]);
    if (grant == NULL || ((protection & PROT_WRITE) && !grant->writable)) return (void*)(intptr_t)fail(EINVAL);
  }
  uint8_t* at = (uint8_t*)syscall(SYS_mmap, NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  for (uint32_t i = 0; i < map->count; i++) {
    long page = (long)(page_of(map->refs[i]) - memory);
    grants[map->refs[i] - FIRST_REF].mapped++;
    syscall(SYS_mmap, at + i * (size_t)PAGE, PAGE, protection, MAP_SHARED | MAP_FIXED, memory_fd, page);
  }
  map->mapped = 1;
  return at;
}

static int gntalloc_ioctl(int fd, unsigned long request, uint32_t* words) {
  uint32_t count = request == 0x184705 ? words[1] : words[2];
  if (request == 0x184705) {  // allocate
    for (uint32_t first = 0; first + count <= PAGES; first++) {
      uint32_t i = 0;
      while (i < count && !grants[first + i].used && !grants[first + i].mapped) i++;
      if (i < count) continue;
      for (i = 0; i < count; i++) {
        grants[first + i] = (struct grant){1, words[0] >> 16 & 1, words[0] & 0xffff, 0, fd};
        words[4 + i] = FIRST_REF + first + i;
      }
      memset(memory + first * (size_t)PAGE, 0, count * (size_t)PAGE);
      uint64_t index = first * (uint64_t)PAGE;
      memcpy(words + 2, &index, 8);
      return 0;
    }
    return fail(ENOSPC);
  }
  if (request == 0x104706) {  // deallocate
    uint32_t first = (uint32_t)(*(uint64_t*)words / PAGE);
    if (first + count > PAGES) return fail(EINVAL);
    for (uint32_t i = first; i < first + count; i++) grants[i].used = 0;
    return 0;
  }
  return fail(ENOTTY);
}

static ssize_t unmask(int fd, const uint32_t* list, size_t bytes) {
  if (bytes > PAGE) bytes = PAGE;
  for (size_t i = 0; i < bytes / 4; i++) {
    uint32_t port = list[i];
    if (port >= PORTS || ports[port].fd != fd) continue;
    ports[port].masked = 0;
    if (ports[port].pending) raise_port(port);
  }
  return (ssize_t)(bytes & ~(size_t)3);
}

// The kernel takes one message a write; this one answers it with itself, or a domain's path.
static ssize_t answer(int fd, const uint32_t* message, size_t bytes) {
  struct {
    uint32_t header[4];
    char path[16];
  } reply = {{message[0], message[1], message[2], 16}, "/local/domain/0"};
  if (bytes > PAGE || bytes != 16 + message[3]) return fail(EINVAL);
  const void* data = message[0] == 10 ? &reply : (const void*)message;
  if (syscall(SYS_write, files[fd].peer, data, message[0] == 10 ? sizeof reply : bytes) < 0) return -1;
  return (ssize_t)bytes;
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  enum kind kind = kind_of(path);
  if (kind == NOT_OURS) return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  pthread_mutex_lock(&lock);
  int fd = open_device(path, kind, flags);
  pthread_mutex_unlock(&lock);
  return fd;
}

int close(int fd) {
  struct file* file = file_of(fd);
  if (file->kind != NOT_OURS) {
    pthread_mutex_lock(&lock);
    for (uint32_t port = 1; file->kind == EVTCHN && port < PORTS; port++)
      if (ports[port].fd == fd) unbind(port);
    for (int i = 0; file->kind == GNTDEV && i < MAPS; i++)
      if (maps[i].used && maps[i].fd == fd) unmap(&maps[i]);
    for (int i = 0; file->kind == GNTALLOC && i < PAGES; i++)
      if (grants[i].fd == fd) grants[i].used = 0;
    if (file->peer >= 0) syscall(SYS_close, file->peer);
    file->kind = NOT_OURS;
    pthread_mutex_unlock(&lock);
  }
  return (int)syscall(SYS_close, fd);
}

// With FAKE_XEN_INTERRUPT every second ioctl is interrupted by a signal, and every second mmap.
static int interrupted(int* calls) {
  if (getenv("FAKE_XEN_INTERRUPT") == NULL || ++*calls % 2 == 0) return 0;
  errno = EINTR;
  return 1;
}

int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  enum kind kind = file_of(fd)->kind;
  if (kind == NOT_OURS) return (int)syscall(SYS_ioctl, fd, request, argument);
  static int calls;
  if (interrupted(&calls)) return -1;
  pthread_mutex_lock(&lock);
  int result = kind == EVTCHN     ? evtchn_ioctl(fd, request, argument)
               : kind == GNTDEV   ? gntdev_ioctl(fd, request, argument)
               : kind == GNTALLOC ? gntalloc_ioctl(fd, request, argument)
                                  : fail(ENOTTY);
  pthread_mutex_unlock(&lock);
  return result;
}

ssize_t write(int fd, const void* data, size_t bytes) {
  enum kind kind = file_of(fd)->kind;
  if (kind != EVTCHN && kind != XENBUS) return syscall(SYS_write, fd, data, bytes);
  pthread_mutex_lock(&lock);
  ssize_t result = kind == EVTCHN ? unmask(fd, data, bytes) : answer(fd, data, bytes);
  pthread_mutex_unlock(&lock);
  return result;
}

void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (file_of(fd)->kind != GNTDEV) return (void*)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  static int calls;
  if (interrupted(&calls)) return MAP_FAILED;
  pthread_mutex_lock(&lock);
  void* result = map_grants(length, protection, (uint64_t)offset);
  pthread_mutex_unlock(&lock);
  return result;
}

void* mmap64(void* address, size_t length, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("mmap")));

void* xenforeignmemory_open(void* logger, unsigned flags) {
  (void)logger, (void)flags;
  pthread_mutex_lock(&lock);
  make_memory();
  pthread_mutex_unlock(&lock);
  return &memory_fd;
}

int xenforeignmemory_close(void* handle) {
  (void)handle;
  return 0;
}

void* xenforeignmemory_map(void* handle, uint32_t domid, int protection, size_t count, const uint64_t* frames,
                           int* errors) {
  (void)handle;
  if (domid != 1) return (void*)(intptr_t)(fail(ESRCH) + 1);
  uint8_t* at = (uint8_t*)syscall(SYS_mmap, NULL, count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  for (size_t i = 0; i < count; i++) {
    errors[i] = frames[i] < PAGES ? 0 : -EINVAL;
    long page = (long)frames[i] * PAGE;
    if (errors[i] == 0) syscall(SYS_mmap, at + i * PAGE, PAGE, protection, MAP_SHARED | MAP_FIXED, memory_fd, page);
  }
  return at;
}

int xenforeignmemory_unmap(void* handle, void* address, size_t count) {
  (void)handle;
  return munmap(address, count * PAGE);
}
