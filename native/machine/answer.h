#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/cbor_writer.h"

namespace tsvmm {

/// The answer to a command or a question, as a message: {"value": what `work` writes, or else
/// null}, or {"error":
/// {"code", "message"}} of the Error that it throws.
[[nodiscard]] std::vector<uint8_t> answer(const std::function<void(CborWriter&)>& work);

}  // namespace tsvmm
