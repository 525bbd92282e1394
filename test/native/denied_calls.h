#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace tsvmm {

/// System calls that fail for the calling thread from now on, as on a file system or a kernel that
/// does not know them.
class DeniedCalls {
 public:
#ifdef SYS_link
  static constexpr std::initializer_list<long> kLinks = {SYS_link, SYS_linkat};
#else
  static constexpr std::initializer_list<long> kLinks = {SYS_linkat};
#endif

#ifdef SYS_clone3
  static constexpr std::initializer_list<long> kThreads = {SYS_clone, SYS_clone3};
#else
  static constexpr std::initializer_list<long> kThreads = {SYS_clone};
#endif

  static void deny(std::initializer_list<long> calls, int error) {
    for (const long call : calls) deny(call, error);
  }

 private:
  static void deny(long call, int error) {
    std::array<sock_filter, 4> program{
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog filter{.len = program.size(), .filter = program.data()};
    EXPECT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    EXPECT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
  }
};

}  // namespace tsvmm
