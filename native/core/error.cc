#include "core/error.h"

#include <cerrno>
#include <cstring>
#include <exception>
#include <new>

namespace tsvmm {

std::string errno_text(int error_number) {
  const char* text = strerrordesc_np(error_number);
  return text != nullptr ? text : "unknown error " + std::to_string(error_number);
}

Error Error::from_errno(const std::string& what, int error_number) {
  const char* name = strerrorname_np(error_number);
  return {name != nullptr ? name : "EUNKNOWN", what + ": " + errno_text(error_number)};
}

std::optional<Error> attempt(const std::function<void()>& operation) noexcept {
  try {
    operation();
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error("ENOMEM", "out of memory");
  } catch (const std::exception& error) {
    return Error("ERR_TSVMM_INTERNAL", error.what());
  }
}

int check_errno(int result, const char* what) {
  if (result < 0) throw Error::from_errno(what, errno);
  return result;
}

}  // namespace tsvmm
