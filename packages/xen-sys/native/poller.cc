#include "poller.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "typed-memory.h"

Poller::Poller(Napi::Env env, int fd, Napi::Value buffer, Napi::Function listener, Poller** slot)
    : env_(env), fd_(fd), slot_(slot) {
  buffer_ = Napi::Persistent(buffer.As<Napi::Object>());
  listener_ = Napi::Persistent(listener);
}

// Bun has the names of libuv's functions, and ends the process when one of them is called.
static bool HasLibuv(Napi::Env env) { return !env.Global().Has("Bun"); }

int Poller::Start(Napi::Env env, int fd, Napi::Value buffer, Napi::Function listener, Poller** slot) {
  if (!HasLibuv(env)) {
    Napi::Error::New(env, "Bun cannot wait for a file in its event loop; Node can").ThrowAsJavaScriptException();
    return -ENOSYS;
  }
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -ENOSYS;
  auto* handle = static_cast<uv_poll_s*>(std::calloc(1, uv_handle_size(kUvPollHandle)));
  int error = uv_poll_init(loop, handle, fd);
  if (error < 0) {
    std::free(handle);
    return error;
  }
  auto* poller = new Poller(env, fd, buffer, listener, slot);
  *slot = poller;
  poller->handle_ = handle;
  uv_handle_set_data(handle, poller);
  napi_async_init(env, nullptr, Napi::String::New(env, "XEN_SYS_POLL"), &poller->context_);
  napi_add_async_cleanup_hook(env, OnEnvironmentExit, poller, &poller->hook_);
  error = uv_poll_start(handle, kUvReadable, OnReadable);
  if (error < 0) poller->Close();
  return error;
}

void Poller::Close() {
  if (slot_ == nullptr) return;
  *slot_ = nullptr;
  slot_ = nullptr;
  buffer_.Reset();
  listener_.Reset();
  if (!delivering_) napi_async_destroy(env_, context_);
  uv_close(handle_, OnClosed);
}

void Poller::OnClosed(uv_poll_s* handle) {
  auto* poller = static_cast<Poller*>(uv_handle_get_data(handle));
  std::free(handle);
  napi_remove_async_cleanup_hook(poller->hook_);
  delete poller;
}

void Poller::OnEnvironmentExit(napi_async_cleanup_hook_handle, void* data) { static_cast<Poller*>(data)->Close(); }

void Poller::OnReadable(uv_poll_s* handle, int, int) {
  // A descriptor in trouble is reported as readable too: reading it gives the errno.
  auto* poller = static_cast<Poller*>(uv_handle_get_data(handle));
  Napi::HandleScope scope(poller->env_);
  // Looked up each time: its buffer may be detached by now.
  TypedMemory memory(poller->buffer_.Value());
  if (memory.data == nullptr) {
    poller->Deliver(-EFAULT);
    return;
  }
  ssize_t length = read(poller->fd_, memory.data, memory.bytes);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
  poller->Deliver(length < 0 ? -errno : static_cast<int>(length));
}

void Poller::Deliver(int result) {
  Napi::Env env = env_;
  Napi::HandleScope scope(env);
  napi_value receiver = buffer_.Value();
  napi_value argument = Napi::Number::New(env, result);
  napi_value function = listener_.Value();
  // The listener may close this poller, which the loop frees later, but must not end the context it is called in.
  delivering_ = true;
  napi_status status = napi_make_callback(env, context_, receiver, function, 1, &argument, nullptr);
  delivering_ = false;
  if (slot_ == nullptr) napi_async_destroy(env, context_);
  if (status == napi_ok) return;
  bool pending = false;
  napi_value error;
  if (napi_is_exception_pending(env, &pending) != napi_ok || !pending) return;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}
