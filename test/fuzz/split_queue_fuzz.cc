// A virtqueue whose rings, descriptors and indirect tables hold what the fuzzer likes, also while
// it is being read.
#include <vector>

#include "fuzz_input.h"
#include "memory/guest_memory.h"
#include "virtio/queue.h"

using namespace tsvmm;

namespace {

constexpr uint64_t kMemory = 0x10000;
constexpr uint16_t kQueueSize = 16;

GuestMemory& memory() {
  static GuestMemory instance({{0, kMemory}}, {});
  return instance;
}

/// Every byte that a chain names must be the guest's.
void touch(const DescriptorChain& chain) {
  for (const GuestBuffer& buffer : chain.readable) {
    volatile uint8_t byte = buffer.host[0];
    byte = buffer.host[buffer.length - 1];
    (void)byte;
  }
  for (const GuestBuffer& buffer : chain.writable) {
    buffer.host[0] = 1;
    buffer.host[buffer.length - 1] = 2;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const auto all = memory().slice(0, kMemory);
  std::fill(all->begin(), all->end(), uint8_t{0});
  const uint64_t features = (input.take<uint8_t>() & 1 ? virtio_feature::kEventIndex : 0) |
                            virtio_feature::kIndirectDescriptors | virtio_feature::kVersion1;
  SplitQueueState state;
  SplitQueue queue(memory(), {.rings = {kQueueSize, 0, 0x100, 0x140}, .state = &state}, features);
  while (!input.empty()) {
    // Mostly the rings, sometimes anywhere.
    const auto where = input.take<uint16_t>();
    const auto bytes = input.take_bytes(input.take<uint8_t>() % 64);
    const uint64_t address = where & 0x8000 ? where : where % 0x400;
    (void)memory().write(std::min(address, kMemory - bytes.size()), bytes);
    DescriptorChain chain;
    for (int i = 0; i < 2 * kQueueSize && queue.pop(chain) == SplitQueue::Pop::kChain; ++i) {
      touch(chain);
      if ((i & 3) == 3) {
        queue.undo_pop();
        continue;
      }
      queue.push_used(chain.head, 1);
    }
    (void)queue.publish();
    (void)queue.enable_notifications();
    queue.disable_notifications();
  }
  return 0;
}
