// Included before every source of the prebuilt addons.
#pragma once

#if defined(__x86_64__)
#define BASE_VERSION "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define BASE_VERSION "GLIBC_2.17"
#else
#error "the oldest version of glibc for this processor is not known here"
#endif

// glibc 2.34 moved these into libc.so.6 under a new version. Those of libdl.so.2 are everywhere. Those of libpthread.so.0
// are found where Node itself has it, which is everywhere too.
__asm__(".symver dlopen, dlopen@" BASE_VERSION);
__asm__(".symver dlsym, dlsym@" BASE_VERSION);
__asm__(".symver dlclose, dlclose@" BASE_VERSION);
__asm__(".symver dlerror, dlerror@" BASE_VERSION);
__asm__(".symver pthread_create, pthread_create@" BASE_VERSION);
__asm__(".symver pthread_detach, pthread_detach@" BASE_VERSION);
