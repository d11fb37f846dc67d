#include "process.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>

Napi::Value ForbidCoreDumps(const Napi::CallbackInfo& info) {
  rlimit none = {0, 0};
  // A program that the kernel pipes core dumps to is not asked for the limit, but for this.
  int failed = setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0;
  return Napi::Number::New(info.Env(), failed ? -errno : 0);
}
