#include "disk/image_file.h"

#include <fcntl.h>

#include "core/descriptor_name.h"

namespace tsvmm {
namespace {

/// Another description of the same open file, or none: there may be no /proc, or a right that only
/// who opened the file had.
UniqueFd open_again(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  // Nothing is synced through what is only read.
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) return UniqueFd();
  return UniqueFd(
      ::open(descriptor_path(fd).c_str(), (flags & (O_ACCMODE | O_DIRECT)) | O_CLOEXEC));
}

}  // namespace

ImageFile::ImageFile(const RawImage& image) : image_(image), own_(open_again(image.fd())) {}

}  // namespace tsvmm
