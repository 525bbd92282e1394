#pragma once

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

namespace tsvmm {

/// A failure on the control path (building, opening, configuring). Never thrown while serving a
/// guest's access.
class Error : public std::runtime_error {
 public:
  /// `code` is stable and machine-readable: an errno name ("ENOENT") or "ERR_TSVMM_...".
  Error(std::string code, const std::string& message)
      : std::runtime_error(message), code_(std::move(code)) {}

  /// "`what`: strerror" with the errno's name as code.
  static Error from_errno(const std::string& what, int error_number);

  [[nodiscard]] const std::string& code() const { return code_; }

 private:
  std::string code_;
};

/// What `operation` fails with, if it does: any exception as an Error.
std::optional<Error> attempt(const std::function<void()>& operation) noexcept;

/// The text of an errno. Kernels return numbers that the C library has no text for, such
/// as ENOTSUPP (524).
std::string errno_text(int error_number);

/// Throws Error::from_errno(what, errno) if `result` is negative; returns it otherwise.
int check_errno(int result, const char* what);

}  // namespace tsvmm
