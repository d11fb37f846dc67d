#ifndef BLOCKDEV_UV_POLL_H
#define BLOCKDEV_UV_POLL_H

// What polling one descriptor takes of libuv, whose functions Node exports. Declared here because the headers of
// Node-API, which is all that a build has, do not come with uv.h. Stable within libuv 1.

#include <cstddef>

extern "C" {
struct uv_loop_s;
struct uv_poll_s;
typedef void (*uv_poll_cb)(uv_poll_s* handle, int status, int events);
typedef void (*uv_close_cb)(uv_poll_s* handle);

size_t uv_handle_size(int type);
int uv_poll_init(uv_loop_s* loop, uv_poll_s* handle, int fd);
int uv_poll_start(uv_poll_s* handle, int events, uv_poll_cb callback);
void uv_close(uv_poll_s* handle, uv_close_cb callback);
void uv_ref(uv_poll_s* handle);
void uv_unref(uv_poll_s* handle);
void* uv_handle_get_data(const uv_poll_s* handle);
void uv_handle_set_data(uv_poll_s* handle, void* data);
}

namespace blockdev {
const int kUvPoll = 8;      // UV_POLL of uv_handle_type
const int kUvReadable = 1;  // UV_READABLE
}  // namespace blockdev

#endif
