// Linked into the prebuilt addons only, so that these load wherever the C library is glibc 2.28 or newer, or musl 1.2.3
// or newer, and take nothing of libstdc++ with them but what they use. What is built on the machine where it runs needs
// none of this.

#include <sched.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

/** Nothing here can go on, and nothing could catch an exception: the addons are built without them. */
[[noreturn]] void Die(const char* what) {
  static const char kPrefix[] = "xen-blockd: native addon: ";
  (void)!write(STDERR_FILENO, kPrefix, sizeof(kPrefix) - 1);
  (void)!write(STDERR_FILENO, what, std::strlen(what));
  (void)!write(STDERR_FILENO, "\n", 1);
  std::abort();
}

void* Allocate(std::size_t bytes) {
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) Die("out of memory");
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return Allocate(bytes); }
void* operator new[](std::size_t bytes) { return Allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

// Those of libstdc++ make exceptions, and with them need the whole unwinder.
namespace std {
void __throw_bad_alloc() { Die("out of memory"); }
void __throw_bad_array_new_length() { Die("an array of a negative or too large length"); }
void __throw_bad_function_call() { Die("an empty function was called"); }
void __throw_length_error(const char* what) { Die(what); }
void __throw_logic_error(const char* what) { Die(what); }
void __throw_out_of_range(const char* what) { Die(what); }
void __throw_out_of_range_fmt(const char* what, ...) { Die(what); }
void __throw_system_error(int) { Die("a lock could not be taken"); }
}  // namespace std

extern "C" {

// Named by what libstdc++ has of strings and maps, for exceptions that nothing here throws.
void __gxx_personality_v0() { Die("an exception"); }
void _Unwind_Resume() { Die("an exception"); }
void* __cxa_begin_catch(void*) noexcept { Die("an exception"); }
void __cxa_end_catch() { Die("an exception"); }
void __cxa_rethrow() { Die("an exception"); }

void* __cxa_allocate_exception(std::size_t) noexcept { Die("an exception"); }
void __cxa_free_exception(void*) noexcept { Die("an exception"); }
void __cxa_throw(void*, void*, void (*)(void*)) { Die("an exception"); }

// Statics of functions, which threads may reach at once. The first byte of a guard says that its static is made.
int __cxa_guard_acquire(char* guard) {
  for (;;) {
    if (__atomic_load_n(guard, __ATOMIC_ACQUIRE) != 0) return 0;
    if (__atomic_exchange_n(guard + 1, 1, __ATOMIC_ACQUIRE) == 0) break;
    sched_yield();
  }
  if (__atomic_load_n(guard, __ATOMIC_ACQUIRE) == 0) return 1;
  __atomic_store_n(guard + 1, 0, __ATOMIC_RELEASE);
  return 0;
}

void __cxa_guard_release(char* guard) {
  __atomic_store_n(guard, 1, __ATOMIC_RELEASE);
  __atomic_store_n(guard + 1, 0, __ATOMIC_RELEASE);
}

void __cxa_guard_abort(char* guard) { __atomic_store_n(guard + 1, 0, __ATOMIC_RELEASE); }

void __cxa_pure_virtual() { Die("a pure virtual function was called"); }

/** Of glibc 2.32: whether libstdc++ may do without atomic operations. It may not. */
char __libc_single_threaded = 0;

#ifdef __GLIBC__
/** Of glibc 2.33; before, it was a macro. The kernel's structure is the one of glibc on these processors. */
int fstat(int fd, struct stat* into) noexcept { return static_cast<int>(syscall(SYS_fstat, fd, into)); }
#else
/** Of a compiler's crtbeginS.o, which is glibc's and not linked: by whose address __cxa_atexit knows the library. */
__attribute__((visibility("hidden"))) void* __dso_handle = &__dso_handle;

#ifdef __aarch64__
/** By its name in glibc, where libgcc asks which atomic instructions the processor has. */
__attribute__((visibility("hidden"))) unsigned long __getauxval(unsigned long type) { return getauxval(type); }
#endif
#endif
}
