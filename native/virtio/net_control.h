#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "virtio/queue.h"

namespace tsvmm {

using MacAddress = std::array<uint8_t, 6>;

/// What a driver asks for through the control queue (virtio 1.2 §5.1.6.5). On the loop's thread.
class NetControlHandler {
 public:
  virtual ~NetControlHandler() = default;
  /// Each returns false for values that are refused.
  virtual bool set_pairs(uint16_t count) noexcept = 0;
  /// Feature bits of GUEST_... offloads.
  virtual bool set_guest_offloads(uint64_t features) noexcept = 0;
  virtual void set_mac(const MacAddress& mac) noexcept = 0;
  virtual void acknowledge_announcement() noexcept = 0;
};

/// Carries out the command in `chain` and writes the answer. Returns the bytes written; 0 if there
/// is no room for one. `features` are those negotiated: a command of a feature that is not is an
/// error.
uint32_t run_net_command(const DescriptorChain& chain, uint64_t features,
                         NetControlHandler& handler) noexcept;

}  // namespace tsvmm
