/*
 * Maps a file into the test as an ArrayBuffer, so that the ring is shared with another process. The few functions of
 * Node-API that it takes are declared here: their binary interface is stable, and no headers need be installed.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

typedef void *napi_env, *napi_value, *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
int napi_get_value_string_utf8(napi_env, napi_value, char *, size_t, size_t *);
int napi_get_value_uint32(napi_env, napi_value, uint32_t *);
int napi_create_external_arraybuffer(napi_env, void *, size_t, void *, void *, napi_value *);
int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
int napi_throw_error(napi_env, const char *, const char *);

static napi_value map(napi_env env, napi_callback_info info)
{
    size_t argc = 2, length;
    napi_value argv[2], buffer = NULL;
    char path[4096];
    uint32_t bytes;
    napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
    napi_get_value_string_utf8(env, argv[0], path, sizeof path, &length);
    napi_get_value_uint32(env, argv[1], &bytes);
    int fd = open(path, O_RDWR);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (at == MAP_FAILED || napi_create_external_arraybuffer(env, at, bytes, NULL, NULL, &buffer) != 0)
        napi_throw_error(env, NULL, "cannot map the file");
    return buffer;
}

napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
    napi_value function;
    (void)exports;
    napi_create_function(env, "map", 3, map, NULL, &function);
    return function;
}
