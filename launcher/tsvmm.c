/*
 * bin/tsvmm: runs the standalone executable where it is there, else the same program under Node.js
 * (also if TSVMM_RUNTIME=node). Freestanding, because a shell or a C library in between would cost
 * half a millisecond, a tenth of what a VM takes to start.
 */
#include <stddef.h>

/* What the npm package of the executable is called, within node_modules. */
#if defined(__x86_64__)
#define EXECUTABLE_PACKAGE "@tsvmm/linux-x64/"
#else
#define EXECUTABLE_PACKAGE "@tsvmm/linux-arm64/"
#endif
#define LIBRARY_PACKAGE "/node_modules/tsvmm/"

enum {
  kPathSize = 4096,
  kMaxEnvironment = 4096,
  kMaxWords = 4096,
  kExitNoRoom = 1,
  kExitNotFound = 127,
  kStandardInput = 0,
  kStandardOutput = 1,
  kStandardError = 2
};
enum {
  kCurrentDirectory = -100, /* AT_FDCWD */
  kNoSuchEntry = -2,        /* -ENOENT */
  kBadDescriptor = -9,      /* -EBADF */
  kDescriptorFlags = 1,     /* F_GETFD */
  kReadOnly = 0             /* O_RDONLY */
};

#if defined(__x86_64__)
enum {
  kWrite = 1,
  kSigaction = 13,
  kExecve = 59,
  kExit = 60,
  kFcntl = 72,
  kGetcwd = 79,
  kChdir = 80,
  kOpenat = 257,
  kReadlinkat = 267,
  kFaccessat = 269,
  kPrlimit = 302
};

static long system_call(long number, long a, long b, long c, long d) {
  register long fourth __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                   : "rcx", "r11", "memory");
  return result;
}

__asm__(
    ".globl _start\n"
    "_start:\n"
    "  xor %ebp, %ebp\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call launch\n");
#elif defined(__aarch64__)
enum {
  kGetcwd = 17,
  kFcntl = 25,
  kFaccessat = 48,
  kChdir = 49,
  kOpenat = 56,
  kWrite = 64,
  kReadlinkat = 78,
  kExit = 93,
  kSigaction = 134,
  kExecve = 221,
  kPrlimit = 261
};

static long system_call(long number, long a, long b, long c, long d) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
}

__asm__(
    ".globl _start\n"
    "_start:\n"
    "  mov x29, #0\n"
    "  mov x0, sp\n"
    "  bl launch\n");
#else
#error "no launcher for this processor"
#endif

/*
 * How the executable's runtime is to behave. Its collector's timer would wake an idle VM's process
 * 15 times a second. Compiling costs two threads and start-up time, wants memory that is writable
 * and executable, and a VMM's TypeScript is not busy enough to gain from it. A heap of two
 * megabytes before it is collected, without helpers: a start takes one and a half, and collecting
 * it costs one and a half milliseconds and a thread. Memory that is freed goes back to the host at
 * once; after a delay, a thread would do it every half minute. Once collected, the heap may double,
 * as where code is compiled: else it would be collected after a fifth of its size, every few
 * reboots, and each time twice a millisecond in which clients may have to wait.
 */
static char *const kRuntimeSettings[] = {
    "BUN_GC_TIMER_DISABLE=1",           "BUN_JSC_useJIT=0",
    "BUN_JSC_largeHeapSize=2000000",    "BUN_JSC_numberOfGCMarkers=1",
    "BUN_JSC_miniVMHeapGrowthFactor=2", "MIMALLOC_PURGE_DELAY=0",
};
enum { kRuntimeSettingCount = sizeof kRuntimeSettings / sizeof *kRuntimeSettings };

/* The supervisor is no VM: it serves many clients for months, and what it does often is compiled.
 */
static char *const kSupervisorSettings[] = {"BUN_GC_TIMER_DISABLE=1", "BUN_JSC_useJIT=1",
                                            "MIMALLOC_PURGE_DELAY=-1"};
enum { kSupervisorSettingCount = sizeof kSupervisorSettings / sizeof *kSupervisorSettings };
#define SUPERVISOR_COMMAND "supervisor"

/*
 * Signals that were ignored when the process started stay ignored: nohup does that, and a script's
 * shell for its background jobs. Node.js forgets it at its start, so the program is told by name.
 */
#define IGNORED_SIGNALS "TSVMM_IGNORED_SIGNALS="
static const struct {
  int number;
  const char *name;
} kSignals[] = {{1, "SIGHUP"},   {2, "SIGINT"},   {3, "SIGQUIT"},  {10, "SIGUSR1"},
                {12, "SIGUSR2"}, {14, "SIGALRM"}, {15, "SIGTERM"}, {28, "SIGWINCH"}};
enum { kSignalCount = sizeof kSignals / sizeof *kSignals, kIgnoredSize = 96 };
enum { kIgnored = 1 }; /* SIG_IGN */

/* The kernel's struct sigaction. */
struct signal_action {
  unsigned long handler;
  unsigned long flags;
  unsigned long restorer;
  unsigned long mask;
};

/* The kernel's struct rlimit64, of the address space. */
struct limit {
  unsigned long long soft;
  unsigned long long hard;
};
enum { kAddressSpace = 9 /* RLIMIT_AS */ };

/*
 * What a runtime reserves of the address space before it says a word, and a little room for a VM
 * without its memory: the executable fails below 380 MB, Node.js below 800 MB, by a signal.
 */
#define LIMITED(least)                                                    \
  "tsvmm: ulimit -v (LimitAS=) leaves less address space than the " least \
  " that a start takes beside the VM's memory\n"
static const unsigned long long kExecutableRoom = 512ULL << 20;
static const unsigned long long kNodeRoom = 1ULL << 30;

static char ignored_signals[kIgnoredSize];
static char *environment[kRuntimeSettingCount + 1 + kMaxEnvironment + 1];
static char *words[kMaxWords + 1];

static size_t length_of(const char *text) {
  size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

/* The rest of `text` after `prefix`, NULL if it does not begin so. */
static char *after(char *text, const char *prefix) {
  while (*prefix != '\0') {
    if (*text++ != *prefix++) return NULL;
  }
  return text;
}

static int is_same(char *text, const char *other) {
  const char *rest = after(text, other);
  return rest != NULL && *rest == '\0';
}

/* Whether the first `length` bytes of `text` end so. */
static int ends_with(const char *text, size_t length, const char *tail) {
  const size_t count = length_of(tail);
  if (length < count) return 0;
  for (size_t i = 0; i < count; ++i) {
    if (text[length - count + i] != tail[i]) return 0;
  }
  return 1;
}

/* Appends to a path that has `length` bytes; 0 if it gets too long. */
static size_t append_bytes(char *path, size_t length, const char *tail, size_t count) {
  if (length + count >= kPathSize) return 0;
  for (size_t i = 0; i < count; ++i) path[length + i] = tail[i];
  path[length + count] = '\0';
  return length + count;
}

static size_t append(char *path, size_t length, const char *tail) {
  return append_bytes(path, length, tail, length_of(tail));
}

static char *find_variable(char **variables, const char *name_and_sign) {
  for (; *variables != NULL; ++variables) {
    char *value = after(*variables, name_and_sign);
    if (value != NULL) return value;
  }
  return NULL;
}

/* Writes the variable that names the ignored signals; 0 if there are none. */
static int name_ignored_signals(void) {
  size_t length = 0;
  for (int i = 0; i < kSignalCount; ++i) {
    struct signal_action action = {0};
    const long failed =
        system_call(kSigaction, kSignals[i].number, 0, (long)&action, sizeof action.mask);
    if (failed || action.handler != kIgnored) continue;
    const char *word = length == 0 ? IGNORED_SIGNALS : " ";
    for (; *word != '\0'; ++word) ignored_signals[length++] = *word;
    for (word = kSignals[i].name; *word != '\0'; ++word) ignored_signals[length++] = *word;
  }
  return length != 0;
}

/* Behind the first `count` variables of the environment to come. */
static void fill_environment(size_t count, char **variables) {
  if (name_ignored_signals()) environment[count++] = ignored_signals;
  for (; *variables != NULL && count < kRuntimeSettingCount + 1 + kMaxEnvironment; ++variables) {
    if (after(*variables, IGNORED_SIGNALS) == NULL) environment[count++] = *variables;
  }
  environment[count] = NULL;
}

static void complain(const char *text) {
  system_call(kWrite, kStandardError, (long)text, (long)length_of(text), 0);
}

__attribute__((noreturn)) static void leave(int code) {
  system_call(kExit, code, 0, 0, 0);
  __builtin_unreachable();
}

/* Ends the process with a word where the runtime would end without. */
static void check_room(unsigned long long least, const char *otherwise) {
  struct limit limit = {0};
  if (system_call(kPrlimit, 0, kAddressSpace, 0, (long)&limit) != 0 || limit.soft >= least) return;
  complain(otherwise);
  leave(kExitNoRoom);
}

/* The checkout's or package's root, two steps above this program: its length with the slash, 0 if
 * unknown. */
static size_t find_root(char *path) {
  const long length = system_call(kReadlinkat, kCurrentDirectory, (long)"/proc/self/exe",
                                  (long)path, kPathSize - 1);
  if (length <= 0) return 0;
  size_t end = (size_t)length;
  for (int steps = 0; steps < 2 && end > 0; ++steps) {
    --end;
    while (end > 0 && path[end] != '/') --end;
  }
  path[end] = '/';
  path[end + 1] = '\0';
  return end + 1;
}

/*
 * Where standard output is closed, a runtime opens /dev/null for it, and what is printed is lost
 * without a word. It gets a descriptor that refuses to be written to, and a closed input one that
 * is at its end.
 */
static void occupy_closed_streams(void) {
  for (long stream = kStandardInput; stream <= kStandardOutput; ++stream) {
    if (system_call(kFcntl, stream, kDescriptorFlags, 0, 0) != kBadDescriptor) continue;
    system_call(kOpenat, kCurrentDirectory, (long)"/dev/null", kReadOnly, 0);
  }
}

/*
 * The executable's runtime does not start in a folder that is gone. It gets one in which relative
 * paths lead nowhere either, and nothing can be made: its names are ranges of addresses.
 */
static void leave_lost_directory(char *path) {
  if (system_call(kGetcwd, (long)path, kPathSize, 0, 0) == kNoSuchEntry) {
    system_call(kChdir, (long)"/proc/self/map_files", 0, 0, 0);
  }
}

/* Returns how many there are. */
static size_t fill_runtime_settings(char **arguments) {
  char *const *settings = kRuntimeSettings;
  size_t count = kRuntimeSettingCount;
  if (arguments[0] != NULL && arguments[1] != NULL && is_same(arguments[1], SUPERVISOR_COMMAND)) {
    settings = kSupervisorSettings;
    count = kSupervisorSettingCount;
  }
  for (size_t i = 0; i < count; ++i) environment[i] = settings[i];
  return count;
}

/* Tries the places where the executable may be, below the first `root` bytes of the path and beside
 * that folder; returns if it is in none. */
static void run_executable(char *path, size_t root, char **arguments, char **variables) {
  check_room(kExecutableRoom, LIMITED("512 MiB"));
  fill_environment(fill_runtime_settings(arguments), variables);
  /* A checkout, an installed package of a distribution, an npm package that has its own. */
  static const char *const below_root[] = {"dist/tsvmm", "lib/tsvmm/tsvmm",
                                           "node_modules/" EXECUTABLE_PACKAGE "tsvmm"};
  for (size_t i = 0; i < sizeof below_root / sizeof *below_root; ++i) {
    if (append(path, root, below_root[i]) == 0) return;
    system_call(kExecve, (long)path, (long)arguments, (long)environment, 0);
  }
  /* Beside the npm package, and only beside one: another folder's neighbours are not ours. */
  if (!ends_with(path, root, LIBRARY_PACKAGE)) return;
  char beside[kPathSize];
  const size_t modules = append_bytes(beside, 0, path, root - (sizeof "tsvmm/" - 1));
  if (append(beside, modules, EXECUTABLE_PACKAGE "tsvmm") == 0) return;
  system_call(kExecve, (long)beside, (long)arguments, (long)environment, 0);
}

/*
 * Node.js from $PATH, with this program's own name. V8 would come back seconds after the last
 * request to collect garbage, were it not told not to. Until our code runs, SIGUSR1 opens the
 * inspector: at an address of "this network" (RFC 1122, 3.2.1.3), which is none that a host has.
 */
static void run_node(char *script, char **arguments, char **variables) {
  const char *search = find_variable(variables, "PATH=");
  size_t count = 0;
  words[count++] = arguments[0] != NULL ? arguments[0] : "node";
  words[count++] = "--no-memory-reducer";
  words[count++] = "--inspect-port=0.0.0.1:9229";
  words[count++] = script;
  for (char **word = arguments[0] != NULL ? arguments + 1 : arguments; *word != NULL; ++word) {
    if (count == kMaxWords) return;
    words[count++] = *word;
  }
  if (search == NULL) return;
  check_room(kNodeRoom, LIMITED("1 GiB"));
  fill_environment(0, variables);
  while (*search != '\0') {
    size_t size = 0;
    while (search[size] != '\0' && search[size] != ':') ++size;
    char node[kPathSize];
    const size_t length = append_bytes(node, 0, search, size);
    if (length != 0 && append(node, length, "/node") != 0) {
      system_call(kExecve, (long)node, (long)words, (long)environment, 0);
    }
    search += size;
    if (*search == ':') ++search;
  }
}

__attribute__((used, noreturn)) void launch(long *stack) {
  const long argument_count = stack[0];
  char **arguments = (char **)(stack + 1);
  char **variables = arguments + argument_count + 1;
  char path[kPathSize];
  occupy_closed_streams();
  leave_lost_directory(path);
  const size_t root = find_root(path);
  const char *runtime = find_variable(variables, "TSVMM_RUNTIME=");
  const int node_only = runtime != NULL && after((char *)runtime, "node") != NULL;
  if (root != 0 && !node_only) run_executable(path, root, arguments, variables);
  if (root != 0 && append(path, root, "dist/js/tsvmm.js") != 0 &&
      system_call(kFaccessat, kCurrentDirectory, (long)path, 0, 0) == 0) {
    run_node(path, arguments, variables);
    complain("tsvmm: the standalone executable is not there, and no node is in $PATH\n");
  } else {
    complain(
        "tsvmm: nothing is built: run 'npm install' and 'npm run build' in its folder first\n");
  }
  leave(kExitNotFound);
}
