// Included before every source of the addons for musl. They are compiled with the headers of musl, and with those of a
// libstdc++ that was made for glibc: here is what these take for granted of glibc.
#pragma once

#include <locale.h>

#ifdef __GLIBC__
#error "these are headers of glibc"
#endif
#define __GLIBC_PREREQ(major, minor) 0
#define __locale_t locale_t

// Else libstdc++ asks a weak symbol that only glibc has whether there are threads, and no mutex would lock anything.
#define _GLIBCXX_GTHREAD_USE_WEAK 0

#include <bits/c++config.h>
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
