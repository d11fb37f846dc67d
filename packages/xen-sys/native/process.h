#pragma once

#include <napi.h>

/**
 * forbidCoreDumps(): the process leaves no core dump, by whatever the kernel does with them, and only root may look into
 * its memory. Programs that it runs may leave none either. 0 or a negative errno.
 */
Napi::Value ForbidCoreDumps(const Napi::CallbackInfo& info);
