#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>

namespace tsvmm::memory_test {

/// Mappings with certain flags that the kernel refuses a thread while the test says so, as it does
/// to a process that has vm.max_map_count of them. One at a time; x86_64.
class RefusedMappings {
 public:
  explicit RefusedMappings(int flags) : flags_(flags) {
    refuses = false;
    refused = 0;
    struct sigaction action {};
    action.sa_sigaction = [](int, siginfo_t*, void* context) {
      map_or_refuse(static_cast<ucontext_t*>(context)->uc_mcontext.gregs);
    };
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    EXPECT_EQ(::sigaction(SIGSYS, &action, &before_), 0);
  }
  /// The threads in question have ended.
  ~RefusedMappings() { ::sigaction(SIGSYS, &before_, nullptr); }
  RefusedMappings(const RefusedMappings&) = delete;
  RefusedMappings& operator=(const RefusedMappings&) = delete;

  /// From now on, in the calling thread.
  void begin() const {
    sigset_t trapped;
    ::sigemptyset(&trapped);
    ::sigaddset(&trapped, SIGSYS);
    EXPECT_EQ(::pthread_sigmask(SIG_UNBLOCK, &trapped, nullptr), 0);
    constexpr uint32_t kFlagsArgument = offsetof(seccomp_data, args) + 3 * sizeof(uint64_t);
    std::array<sock_filter, 6> program{
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kFlagsArgument),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(flags_), 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog filter{.len = program.size(), .filter = program.data()};
    EXPECT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    EXPECT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
  }

  static inline std::atomic<bool> refuses = false;
  static inline std::atomic<int> refused = 0;  ///< how often

 private:
  static void map_or_refuse(greg_t* registers) {
    if (refuses) {
      ++refused;
      registers[REG_RAX] = -ENOMEM;
      return;
    }
    // One more flag, which means nothing to the kernel, and the filter lets it pass.
    const long result =
        ::syscall(SYS_mmap, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                  registers[REG_R10] | MAP_STACK, registers[REG_R8], registers[REG_R9]);
    registers[REG_RAX] = result == -1 ? -errno : result;
  }

  const int flags_;
  struct sigaction before_ {};
};

}  // namespace tsvmm::memory_test
