#pragma once

// The few functions of libuv that a poller needs, declared here so that the addon builds against the Node-API
// headers alone. libuv keeps these stable within version 1 (docs.libuv.org, "ABI"); the size of the handle is
// asked for at run time.

#include <cstddef>

extern "C" {
struct uv_loop_s;
struct uv_poll_s;
typedef void (*uv_poll_cb)(uv_poll_s* handle, int status, int events);
typedef void (*uv_close_cb)(uv_poll_s* handle);

size_t uv_handle_size(int type);
int uv_poll_init(uv_loop_s* loop, uv_poll_s* handle, int fd);
int uv_poll_start(uv_poll_s* handle, int events, uv_poll_cb callback);
int uv_poll_stop(uv_poll_s* handle);
void uv_close(uv_poll_s* handle, uv_close_cb callback);
void uv_ref(uv_poll_s* handle);
void uv_unref(uv_poll_s* handle);
int uv_backend_fd(const uv_loop_s* loop);
int uv_backend_timeout(const uv_loop_s* loop);
void* uv_handle_get_data(const uv_poll_s* handle);
void uv_handle_set_data(uv_poll_s* handle, void* data);
}

constexpr int kUvPollHandle = 8;  // UV_POLL of enum uv_handle_type
constexpr int kUvReadable = 1;
