#include "disk/qcow2/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include <cerrno>

namespace tsvmm::qcow2 {
namespace {

/// Bounds what a hostile frame makes the library allocate: 8 MiB, four times the largest cluster.
constexpr int kMaxZstdWindowLog = 23;

bool inflate_raw(std::span<const uint8_t> from, std::span<uint8_t> to) noexcept {
  z_stream stream{};
  // Negative: a raw deflate stream. Nothing is allocated for the window, as all output is at hand.
  if (::inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
  stream.next_in = const_cast<Bytef*>(from.data());
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = to.data();
  stream.avail_out = static_cast<uInt>(to.size());
  const int result = ::inflate(&stream, Z_FINISH);
  const bool full = stream.avail_out == 0;
  ::inflateEnd(&stream);
  return full && (result == Z_STREAM_END || result == Z_BUF_ERROR);
}

bool inflate_zstd(std::span<const uint8_t> from, std::span<uint8_t> to) noexcept {
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                     &ZSTD_freeDCtx);
  if (!context) return false;
  if (ZSTD_isError(ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog)) !=
      0) {
    return false;
  }
  ZSTD_inBuffer input{from.data(), from.size(), 0};
  ZSTD_outBuffer output{to.data(), to.size(), 0};
  while (output.pos < output.size) {
    const size_t in_before = input.pos;
    const size_t out_before = output.pos;
    const size_t result = ZSTD_decompressStream(context.get(), &output, &input);
    if (ZSTD_isError(result) != 0) return false;
    if (input.pos == in_before && output.pos == out_before) return false;
  }
  return true;
}

}  // namespace

bool decompress(Compression compression, std::span<const uint8_t> from,
                std::span<uint8_t> to) noexcept {
  return compression == Compression::kZstd ? inflate_zstd(from, to) : inflate_raw(from, to);
}

int CompressedReader::read(uint64_t word, std::span<const uint8_t>& cluster) noexcept {
  if (word_ != word) {
    const CompressedRange range = compressed_range(geometry_, word);
    compressed_.resize(range.length);
    cluster_.resize(geometry_.cluster_size());
    word_ = 0;
    if (const int error = container_.read(range.offset, compressed_)) return error;
    if (!decompress(compression_, compressed_, cluster_)) return EIO;
    word_ = word;
  }
  cluster = cluster_;
  return 0;
}

}  // namespace tsvmm::qcow2
