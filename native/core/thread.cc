#include "core/thread.h"

#include <pthread.h>
#include <sched.h>

#include <csignal>
#include <string>
#include <system_error>

#include "core/error.h"

namespace tsvmm {

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
    std::thread thread([short_name = name.substr(0, 15), body = std::move(body)] {
      pthread_setname_np(pthread_self(), short_name.c_str());
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
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) throw Error("EINVAL", "host CPU out of range");
    CPU_SET(cpu, &set);
  }
  const int error = pthread_setaffinity_np(pthread_self(), sizeof set, &set);
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
