#include "core/unique_fd.h"

#include <fcntl.h>

#include "core/error.h"

namespace tsvmm {

UniqueFd UniqueFd::duplicate(int fd) {
  return UniqueFd(check_errno(::fcntl(fd, F_DUPFD_CLOEXEC, 3), "duplicating a descriptor"));
}

}  // namespace tsvmm
