// Disk images of every format whose metadata was changed by a fuzzer, and then used. The images to
// begin with are in the folder that TSVMM_FUZZ_IMAGES names, each with the format as the end of its
// name.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "disk/open_image.h"
#include "fuzz_input.h"

using namespace tsvmm;

namespace {

constexpr uint64_t kCopySize = 1 << 20;
constexpr size_t kMaxTransfer = 128 << 10;
/// Metadata that claims more is not worth the fuzzer's time.
constexpr uint64_t kLargestResize = 64ULL << 20;

struct Template {
  UniqueFd file;
  uint64_t size;
  ImageFormat format;
};

const std::map<std::string, ImageFormat>& formats() {
  static const std::map<std::string, ImageFormat> known{{".raw", ImageFormat::kRaw},
                                                        {".qcow2", ImageFormat::kQcow2},
                                                        {".vhd", ImageFormat::kFixedVhd},
                                                        {".vhdx", ImageFormat::kVhdx}};
  return known;
}

std::vector<Template>& templates() {
  static std::vector<Template> instance;
  return instance;
}

/// The same bytes with the same holes, in memory.
UniqueFd copy_of(const Template& original) {
  UniqueFd copy(::memfd_create("image", MFD_CLOEXEC));
  if (::ftruncate(copy.get(), static_cast<off_t>(original.size)) != 0) std::abort();
  std::vector<uint8_t> bytes(kCopySize);
  off_t at = 0;
  for (;;) {
    at = ::lseek(original.file.get(), at, SEEK_DATA);
    if (at < 0) return copy;
    const off_t end = ::lseek(original.file.get(), at, SEEK_HOLE);
    while (at < end) {
      const auto want = std::min<size_t>(bytes.size(), static_cast<size_t>(end - at));
      const ssize_t got = ::pread(original.file.get(), bytes.data(), want, at);
      if (got <= 0 || ::pwrite(copy.get(), bytes.data(), static_cast<size_t>(got), at) != got) {
        std::abort();
      }
      at += got;
    }
  }
}

void patch(fuzz::Input& input, int fd, uint64_t size) {
  const auto where = input.take<uint32_t>();
  // Most metadata lies at the start of a file or at its end.
  uint64_t offset = where % size;
  if (where & 0x8000'0000) offset = (where & 0x7fff) % size;
  if ((where & 0xc000'0000) == 0x4000'0000) offset = size - 1 - (where & 0x3ff) % size;
  const auto bytes = input.take_bytes(1 + input.take<uint8_t>() % 16);
  if (::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) < 0) std::abort();
}

void run(DiskQueue& queue, DiskOperation& operation) {
  queue.start(operation);
  for (;;) {
    queue.submit();
    if (queue.next_completed() == &operation) return;
    queue.wait();
  }
}

void operate(fuzz::Input& input, DiskImage& image, DiskQueue& queue) {
  const uint64_t sectors = image.size() / 512;
  const auto what = input.take<uint8_t>() % 8;
  if (what == 7) {
    const uint64_t wanted = input.take<uint32_t>() % kLargestResize / 512 * 512;
    try {
      image.resize(wanted);
    } catch (const Error&) {
    }
    return;
  }
  if (sectors == 0) return;
  std::vector<uint8_t> bytes(kMaxTransfer);
  const uint64_t sector = input.take<uint32_t>() % sectors;
  const uint64_t count = 1 + input.take<uint8_t>();
  const uint64_t length = std::min(count, sectors - sector) * 512;
  iovec buffer{bytes.data(), length};
  constexpr std::array kKinds{DiskOperation::Kind::kRead, DiskOperation::Kind::kWrite,
                              DiskOperation::Kind::kFlush, DiskOperation::Kind::kDiscard,
                              DiskOperation::Kind::kWriteZeroes};
  DiskOperation operation;
  operation.kind = kKinds[what % kKinds.size()];
  if (operation.kind != DiskOperation::Kind::kFlush) {
    operation.offset = sector * 512;
    operation.length = length;
  }
  operation.may_unmap = (count & 1) != 0;
  if (operation.kind == DiskOperation::Kind::kRead ||
      operation.kind == DiskOperation::Kind::kWrite) {
    operation.buffers = {&buffer, 1};
  }
  run(queue, operation);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*count*/, char*** /*arguments*/) {
  const char* folder = std::getenv("TSVMM_FUZZ_IMAGES");
  if (folder == nullptr) {
    std::fputs("TSVMM_FUZZ_IMAGES must name a folder of images\n", stderr);
    std::exit(2);
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto format = formats().find(entry.path().extension());
    if (format == formats().end()) continue;
    UniqueFd file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    templates().push_back({std::move(file), entry.file_size(), format->second});
  }
  if (templates().empty()) std::abort();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const Template& original = templates()[input.take<uint8_t>() % templates().size()];
  std::vector<ImageLayer> layers(1);
  layers[0].fd = copy_of(original);
  layers[0].format = original.format;
  const int fd = layers[0].fd.get();
  const auto options = input.take<uint8_t>();
  for (int patches = input.take<uint8_t>() % 8; patches > 0; --patches) {
    patch(input, fd, original.size);
  }
  try {
    const auto image = open_image(
        std::move(layers),
        {.read_only = (options & 1) != 0, .direct = false, .sparse = (options & 2) != 0});
    const auto queue = image->make_queue(4);
    for (int i = 0; i < 16 && !input.empty(); ++i) operate(input, *image, *queue);
  } catch (const Error&) {
    // Refused, as it should be.
  }
  return 0;
}
