{
  "targets": [
    {
      "target_name": "blockdev",
      "sources": [
        "addon.cc",
        "arguments.cc",
        "bounce.cc",
        "descriptors.cc",
        "engine.cc",
        "guarded-memory.cc",
        "ranges.cc",
        "registrations.cc",
        "ring-sleep.cc",
        "slots.cc",
        "thread-engine.cc",
        "transfers.cc",
        "uring.cc",
        "work-threads.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"]
    }
  ]
}
