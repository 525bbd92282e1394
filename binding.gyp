{
  # What `prebuildify` and a build from source on a user's machine use; developers build with CMake.
  "targets": [
    {
      "target_name": "tsvmm",
      "sources": ["<!@(find native -name '*.cc' | sort)"],
      "include_dirs": [
        "native",
        "<!(node -p \"require('node-addon-api').include_dir\")",
        "<!(node -p \"require('node-api-headers').include_dir\")"
      ],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=gnu++20", "-fexceptions", "-frtti", "-fvisibility=hidden", "-Wall", "-Wextra"],
      "libraries": ["-l:libz.a", "-l:libzstd.a"],
      "ldflags": ["-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections", "-Wl,--exclude-libs,ALL"],
      "conditions": [["OS!='linux'", {"sources/": [["exclude", "native/"]]}]]
    }
  ]
}
