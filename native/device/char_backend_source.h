#pragma once

#include <memory>
#include <vector>

#include "core/message.h"
#include "core/unique_fd.h"
#include "device/char_backend.h"

namespace tsvmm {

/// A character device's host end as a specification has it, with the descriptors that it names.
struct CharBackendSource {
  CharBackendSpec spec;
  std::vector<UniqueFd> descriptors;
};

/// Throws ValueError.
[[nodiscard]] CharBackendSource read_char_backend(const Value& value);

}  // namespace tsvmm
