#pragma once

#include <time.h>

#include <algorithm>
#include <cstdint>

#include "uv-poll.h"

/** How long a thread may sleep without its event loop. */
class LoopTime {
 public:
  struct Span {
    /** 0: the event loop has something to do. Negative: no limit. */
    int64_t microseconds;
    /** The limit is the caller's, not the event loop's. */
    bool limited;
  };

  explicit LoopTime(uv_loop_s* loop) : loop_(loop) {}

  /** `first`: the event loop has just had its turn. `limit`: the caller's, in microseconds; negative for none. */
  Span Next(bool first, int64_t limit) {
    int64_t now = CoarseMilliseconds();
    if (first) awake_since_ = now;
    int64_t timeout = uv_backend_timeout(loop_);
    // The loop's own clock stands still meanwhile.
    if (timeout > 0) timeout = std::max<int64_t>(0, timeout - (now - awake_since_));
    bool limited = timeout != 0 && limit >= 0 && (timeout < 0 || limit < timeout * 1000);
    return {limited ? limit : timeout * 1000, limited};
  }

  int descriptor() const { return uv_backend_fd(loop_); }

 private:
  /** Milliseconds on a clock that costs no system call where others do. */
  static int64_t CoarseMilliseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
  }

  uv_loop_s* loop_;
  /** When the event loop last had its turn, on the coarse clock, in milliseconds. */
  int64_t awake_since_ = 0;
};
