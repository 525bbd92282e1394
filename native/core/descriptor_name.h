#pragma once

#include <string>

namespace tsvmm {

/// By which the file that a descriptor is of can be opened anew (proc(5)).
std::string descriptor_path(int fd);

/// For messages: the path of an open file, as the host has it by now; its number if that cannot be
/// found out. Whoever opened it may have said another one.
std::string descriptor_name(int fd);

}  // namespace tsvmm
