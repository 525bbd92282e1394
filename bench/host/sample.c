#include "sample.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool read_text(const char* path, char* text, size_t size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t length = read(fd, text, size - 1);
  close(fd);
  if (length < 0) return false;
  text[length] = 0;
  return true;
}

/* Time on a CPU, guest mode included: the first field of schedstat
 * (Documentation/scheduler/sched-stats). */
static void add_thread(struct sample* sample, pid_t process, const char* id, const char* prefix) {
  char path[512], text[256];
  if (sample->thread_count == kMaxThreads) return;
  struct thread_time* thread = &sample->threads[sample->thread_count];
  snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", process, id);
  if (!read_text(path, text, sizeof text)) return;
  thread->ns = strtoull(text, NULL, 10);
  snprintf(path, sizeof path, "/proc/%d/task/%s/comm", process, id);
  if (!read_text(path, text, sizeof text)) return;
  text[strcspn(text, "\n")] = 0;
  snprintf(thread->name, sizeof thread->name, "%.15s", text);
  thread->thread = atoi(id);
  thread->is_vcpu = strncmp(text, prefix, strlen(prefix)) == 0;
  sample->thread_count++;
}

void take_sample(struct sample* sample, pid_t process, const char* vcpu_prefix) {
  char path[64];
  memset(sample, 0, sizeof *sample);
  sample->time_ns = now_ns();
  snprintf(path, sizeof path, "/proc/%d/task", process);
  DIR* tasks = opendir(path);
  if (tasks == NULL) return;
  for (struct dirent* entry; (entry = readdir(tasks)) != NULL;)
    if (entry->d_name[0] != '.') add_thread(sample, process, entry->d_name, vcpu_prefix);
  closedir(tasks);
}

static uint64_t time_of(const struct sample* sample, pid_t thread) {
  for (size_t i = 0; i < sample->thread_count; i++)
    if (sample->threads[i].thread == thread) return sample->threads[i].ns;
  return 0;
}

void print_usage(const struct sample* before, const struct sample* after) {
  uint64_t total = 0, vcpu = 0;
  for (size_t i = 0; i < after->thread_count; i++) {
    const struct thread_time* thread = &after->threads[i];
    const uint64_t used = thread->ns - time_of(before, thread->thread);
    total += used;
    if (thread->is_vcpu) vcpu += used;
    if (used > 0) printf("thread %lu %s\n", used, thread->name);
  }
  printf("wall %lu\ncpu %lu\ncpu-vcpu %lu\n", after->time_ns - before->time_ns, total, vcpu);
}

void print_rest(const struct sample* before, const struct sample* after) {
  uint64_t used = 0;
  for (size_t i = 0; i < after->thread_count; i++)
    if (!after->threads[i].is_vcpu)
      used += after->threads[i].ns - time_of(before, after->threads[i].thread);
  printf("rest %lu %lu\n", after->time_ns - before->time_ns, used);
}
