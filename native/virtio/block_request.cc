#include "virtio/block_request.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace tsvmm {

size_t BlockRequest::extra_buffers(const DescriptorChain& chain) noexcept {
  const size_t buffers = std::max(chain.readable.size(), chain.writable.size());
  return buffers > kInlineBuffers ? buffers : 0;
}

bool BlockRequest::reserve(size_t count) noexcept {
  used_ = 0;
  extra = count;
  buffers_ = inline_.data();
  if (count == 0) return true;
  large_.reset(new (std::nothrow) iovec[count]);
  buffers_ = large_.get();
  return buffers_ != nullptr;
}

void BlockRequest::add(uint8_t* bytes, size_t size) noexcept {
  if (size != 0) buffers_[used_++] = {bytes, size};
  data_length += size;
}

const char* BlockRequest::parse(const DescriptorChain& chain) noexcept {
  head = chain.head;
  data_length = 0;
  data_written = 0;
  if (chain.writable.empty()) return "block request without a status byte";
  if (!reserve(extra_buffers(chain))) return "out of memory";
  const GuestBuffer& last = chain.writable.back();
  status_ = last.host + last.length - 1;

  // The header, and behind it what an OUT request brings.
  size_t header_size = 0;
  std::array<uint8_t, sizeof header> bytes;
  for (const GuestBuffer& buffer : chain.readable) {
    const size_t taken = std::min<size_t>(buffer.length, bytes.size() - header_size);
    std::memcpy(bytes.data() + header_size, buffer.host, taken);
    header_size += taken;
    add(buffer.host + taken, buffer.length - taken);
  }
  if (header_size < bytes.size()) return "block request without a whole header";
  std::memcpy(&header, bytes.data(), sizeof header);

  // The others have their data, if any, in the writable part, all of it but the status byte.
  const bool is_readable = header.type == virtio_block::kRequestOut ||
                           header.type == virtio_block::kRequestDiscard ||
                           header.type == virtio_block::kRequestWriteZeroes;
  if (!is_readable) {
    used_ = 0;
    data_length = 0;
    for (const GuestBuffer& buffer : chain.writable.first(chain.writable.size() - 1)) {
      add(buffer.host, buffer.length);
    }
    add(last.host, last.length - 1);
  }
  data = {buffers_, used_};
  return nullptr;
}

const uint8_t* BlockRequest::copy_last_sector() noexcept {
  using Sector = decltype(last_sector_)::element_type;
  std::unique_ptr<iovec[]> buffers(new (std::nothrow) iovec[used_ + 1]);
  last_sector_.reset(new (std::nothrow) Sector);
  if (!buffers || !last_sector_) return nullptr;
  std::ranges::copy(data, buffers.get());
  // From the end, because a driver may split the sector into buffers in any way.
  size_t left = last_sector_->size();
  while (left > 0) {
    iovec& buffer = buffers[used_ - 1];
    const size_t taken = std::min(left, buffer.iov_len);
    buffer.iov_len -= taken;
    left -= taken;
    std::memcpy(last_sector_->data() + left,
                static_cast<const uint8_t*>(buffer.iov_base) + buffer.iov_len, taken);
    if (buffer.iov_len == 0) --used_;
  }
  buffers[used_++] = {last_sector_->data(), last_sector_->size()};
  large_ = std::move(buffers);
  buffers_ = large_.get();
  data = {buffers_, used_};
  return last_sector_->data();
}

uint32_t BlockRequest::answer(uint8_t status) noexcept {
  *status_ = status;
  large_.reset();
  last_sector_.reset();
  ranges.reset();
  return data_written + 1;
}

}  // namespace tsvmm
