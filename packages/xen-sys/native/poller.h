#pragma once

#include <napi.h>

#include "uv-poll.h"

/**
 * One uv_poll on one descriptor: reads into a preallocated typed array and calls a JavaScript function.
 *
 * It frees itself: libuv closes handles asynchronously, so the object outlives its owner and, in a worker thread
 * that is terminated, the JavaScript heap. The asynchronous clean-up hook makes Node wait for that.
 */
class Poller {
 public:
  /**
   * Starts polling and sets `*slot`, which becomes null again when the poller closes, by its owner or because the
   * environment exits. 0 or a negative errno.
   */
  static int Start(Napi::Env env, int fd, Napi::Value buffer, Napi::Function listener, Poller** slot);

  /** Stops at once; the listener is never called again. */
  void Close();
  void Ref() { uv_ref(handle_); }
  void Unref() { uv_unref(handle_); }

 private:
  Poller(Napi::Env env, int fd, Napi::Value buffer, Napi::Function listener, Poller** slot);
  ~Poller() = default;

  static void OnReadable(uv_poll_s* handle, int status, int events);
  static void OnClosed(uv_poll_s* handle);
  static void OnEnvironmentExit(napi_async_cleanup_hook_handle hook, void* data);

  void Deliver(int result);

  Napi::Env env_;
  int fd_;
  Napi::ObjectReference buffer_;
  Napi::FunctionReference listener_;
  napi_async_context context_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  uv_poll_s* handle_ = nullptr;
  Poller** slot_;
  bool delivering_ = false;
};
