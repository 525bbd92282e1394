#include "core/thread.h"

#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <system_error>

#include "core/error.h"

namespace tsvmm {
namespace {

/// The host CPUs that the calling thread could use when it began; none for threads that were not
/// made here, and on hosts with more CPUs than the set can name.
thread_local std::optional<cpu_set_t> initial_cpus;

/// A thread inherits its creator's CPUs. Who pinned a vCPU, here or from outside, did not mean the
/// device threads that it starts: they get what the creator had when it began.
std::optional<cpu_set_t> adopt_cpus(const std::optional<cpu_set_t>& wanted) {
  cpu_set_t inherited;
  if (::sched_getaffinity(0, sizeof inherited, &inherited) != 0) return std::nullopt;
  if (!wanted || CPU_EQUAL(&inherited, &*wanted)) return inherited;
  // Refused if the process may not use any of them by now; the inherited ones do then.
  return ::sched_setaffinity(0, sizeof *wanted, &*wanted) == 0 ? wanted : inherited;
}

}  // namespace

std::thread spawn_thread(const std::string& name, std::function<void()> body) {
  // A thread inherits its creator's mask: block around the creation so that no signal finds it
  // unmasked.
  sigset_t all;
  sigset_t previous;
  sigfillset(&all);
  // Of a thread's own doing: it could not be handled (memory/lost_pages.h) if it were blocked.
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  try {
    std::thread thread(
        [short_name = name.substr(0, 15), cpus = initial_cpus, body = std::move(body)] {
          pthread_setname_np(pthread_self(), short_name.c_str());
          initial_cpus = adopt_cpus(cpus);
          body();
        });
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
    return thread;
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
    throw Error::from_errno("creating thread " + name, error.code().value());
  }
}

void pin_current_thread(const std::vector<int>& cpus) {
  if (!cpus.empty()) pin_thread(0, cpus);
}

void pin_thread(pid_t thread, const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) throw Error("EINVAL", "host CPU out of range");
    CPU_SET(cpu, &set);
  }
  const int error = ::sched_setaffinity(thread, sizeof set, &set) == 0 ? 0 : errno;
  if (error == EINVAL) {
    std::string list;
    for (const int cpu : cpus) list += (list.empty() ? "" : ", ") + std::to_string(cpu);
    throw Error("EINVAL", "none of the host CPUs " + list +
                              " (affinity) is there and allowed for this process: nproc and "
                              "/proc/self/status (Cpus_allowed_list) say which are");
  }
  if (error != 0) throw Error::from_errno("setting CPU affinity", error);
}

}  // namespace tsvmm
