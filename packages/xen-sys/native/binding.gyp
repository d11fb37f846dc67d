{
  "targets": [
    {
      "target_name": "xen-sys",
      "sources": [
        "addon.cc",
        "arguments.cc",
        "bound-call.cc",
        "descriptor.cc",
        "foreign-memory.cc",
        "futex.cc",
        "mapping.cc",
        "poller.cc",
        "process.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"],
      "libraries": ["-ldl"]
    }
  ]
}
