#pragma once

#include <cstdint>
#include <string>

namespace tsvmm {

/// What is read first of files that a machine uses is at their beginning and their end: headers of
/// kernels and images, footers of VHD images.
///
/// Opens a file that has bytes at offsets, and reads both; opens a folder; leaves alone anything of
/// another kind, which may have effects. Errors are ignored: opening it for use has them as well.
void read_first(const std::string& path);

/// Whether read_first() would wait for nothing: the kernel knows all names on the way and has the
/// bytes in memory, and its file system asks no other program or host. Itself waits for nothing.
/// False also where it cannot be told: on Linux before 5.12, and before 6.8 for file systems that
/// are on no disk or on several.
bool is_cached(const std::string& path);

}  // namespace tsvmm
