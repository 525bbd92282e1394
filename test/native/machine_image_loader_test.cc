#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "machine/image_loader.h"

namespace tsvmm {
namespace {

UniqueFd file_of(std::string_view text) {
  UniqueFd fd(::memfd_create("image", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  return fd;
}

std::vector<LoadItem> one(LoadItem item) {
  std::vector<LoadItem> items;
  items.push_back(std::move(item));
  return items;
}

TEST(ImageLoader, PutsBytesAndFilesWhereTheyBelong) {
  const GuestMemory memory({{0, 8192}}, {});
  std::vector<LoadItem> items;
  items.emplace_back(LoadBytes{16, {1, 2, 3}});
  items.emplace_back(LoadFile{8192 - 4, file_of("0123456789"), 3, 4});
  load_images(memory, items);
  EXPECT_EQ(memory.read<uint8_t>(18), 3);
  EXPECT_EQ(memory.read<uint32_t>(8188), 0x36353433U);
}

TEST(ImageLoader, RefusesWhatDoesNotFitIntoRam) {
  const GuestMemory memory({{0, 8192}}, {});
  EXPECT_THROW(load_images(memory, one(LoadBytes{8190, {1, 2, 3}})), Error);
  EXPECT_THROW(load_images(memory, one(LoadFile{0, file_of("x"), 0, UINT64_MAX})), Error);
}

TEST(ImageLoader, NamesAFileThatIsTooShort) {
  const GuestMemory memory({{0, 8192}}, {});
  try {
    load_images(memory, one(LoadFile{0, file_of("0123"), 2, 4}));
    FAIL() << "loaded more than there is";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "ERR_TSVMM_LOAD");
    EXPECT_STREQ(
        error.what(),
        "/memfd:image (deleted) has become shorter: it ends after 4 bytes, and 6 are needed");
  }
}

TEST(ImageLoader, NamesAFileThatCannotBeRead) {
  const GuestMemory memory({{0, 8192}}, {});
  // Nothing is mapped at address 0: EIO.
  UniqueFd fd(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  try {
    load_images(memory, one(LoadFile{0, std::move(fd), 0, 4}));
    FAIL() << "read what is not there";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "EIO");
    EXPECT_EQ(error.what(),
              "reading /proc/" + std::to_string(::getpid()) + "/mem: Input/output error");
  }
}

TEST(ImageLoader, StopsWhenNobodyWantsTheMachineAnyMore) {
  const GuestMemory memory({{0, 8192}}, {});
  Cancellation cancellation;
  cancellation.request();
  try {
    load_images(memory, one(LoadFile{0, file_of("0123"), 0, 4}), cancellation);
    FAIL() << "loaded nevertheless";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "ECANCELED");
  }
}

}  // namespace
}  // namespace tsvmm
