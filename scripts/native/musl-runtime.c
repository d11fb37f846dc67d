// Loaded before a Node or Bun for musl on a machine whose libstdc++.so.6 and libgcc_s.so.1 were made for glibc, so that it
// runs with these: here is what they ask of glibc and musl does not have. For tests of the addons for musl, and for
// nothing else.

#include <link.h>
#include <locale.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>

const unsigned short** __ctype_b_loc(void);
const int32_t** __ctype_tolower_loc(void);
const int32_t** __ctype_toupper_loc(void);

/** glibc's layout, where libstdc++ finds the tables of <ctype.h>. To musl, which sees six null parts, it is "C" too. */
static struct {
  void* parts[13];
  const unsigned short* classes;
  const int32_t* lower;
  const int32_t* upper;
  const char* names[13];
} c_locale;

void* __newlocale(int categories, const char* name, void* base) {
  c_locale.classes = *__ctype_b_loc();
  c_locale.lower = *__ctype_tolower_loc();
  c_locale.upper = *__ctype_toupper_loc();
  for (int i = 0; i < 13; i++) c_locale.names[i] = "C";
  return &c_locale;
}

void* __duplocale(void* locale) { return locale; }
void __freelocale(void* locale) {}

size_t __strftime_l(char* into, size_t bytes, const char* format, const struct tm* time, void* locale) {
  return strftime_l(into, bytes, format, time, locale);
}

char __libc_single_threaded = 0;

uint32_t arc4random(void) {
  uint32_t value = 0;
  if (getrandom(&value, sizeof(value), 0) != sizeof(value)) abort();
  return value;
}

#ifdef __aarch64__
unsigned long __getauxval(unsigned long type) { return getauxval(type); }
#endif

/** Of libgcc, where musl's loader does not find them under their old versions: a processor of which nothing is known. */
unsigned __cpu_model[4];
int __cpu_indicator_init(void) { return 0; }

/** struct dl_find_object of glibc 2.35, by which exceptions are unwound. */
struct FoundObject {
  unsigned long long flags;
  void* begin;
  void* end;
  struct link_map* map;
  void* frames;
  unsigned long long reserved[7];
};

struct Search {
  uintptr_t address;
  struct FoundObject* found;
};

static int Visit(struct dl_phdr_info* library, size_t size, void* data) {
  struct Search* search = data;
  uintptr_t begin = UINTPTR_MAX;
  uintptr_t end = 0;
  uintptr_t frames = 0;
  int holds = 0;
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const ElfW(Phdr)* part = &library->dlpi_phdr[i];
    uintptr_t at = library->dlpi_addr + part->p_vaddr;
    if (part->p_type == PT_GNU_EH_FRAME) frames = at;
    if (part->p_type != PT_LOAD) continue;
    if (search->address - at < part->p_memsz) holds = 1;
    if (at < begin) begin = at;
    if (at + part->p_memsz > end) end = at + part->p_memsz;
  }
  if (!holds || !frames) return 0;
  *search->found = (struct FoundObject){.begin = (void*)begin, .end = (void*)end, .frames = (void*)frames};
  return 1;
}

int _dl_find_object(void* address, struct FoundObject* found) {
  struct Search search = {(uintptr_t)address, found};
  return dl_iterate_phdr(Visit, &search) ? 0 : -1;
}

/** What a thread has to destroy at its end, the newest first. */
struct Ending {
  void (*destroy)(void*);
  void* object;
  struct Ending* next;
};

static pthread_key_t endings;
static pthread_once_t endings_once = PTHREAD_ONCE_INIT;

static void End(void* first) {
  for (struct Ending* one = first; one;) {
    struct Ending* next = one->next;
    one->destroy(one->object);
    free(one);
    one = next;
  }
}

static void MakeEndings(void) { pthread_key_create(&endings, End); }

int __cxa_thread_atexit_impl(void (*destroy)(void*), void* object, void* library) {
  pthread_once(&endings_once, MakeEndings);
  struct Ending* one = malloc(sizeof(*one));
  if (!one) abort();
  *one = (struct Ending){destroy, object, pthread_getspecific(endings)};
  return pthread_setspecific(endings, one);
}

/** std::string::_M_replace_cold, since GCC 13: the new text lies in the string that it changes. */
void _ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE15_M_replace_coldEPcmPKcmm(void* string, char* at, size_t before,
                                                                                     const char* text, size_t bytes,
                                                                                     size_t behind) {
  char* copy = malloc(bytes + 1);
  if (!copy) abort();
  memcpy(copy, text, bytes);
  memmove(at + bytes, at + before, behind);
  memcpy(at, copy, bytes);
  free(copy);
}
