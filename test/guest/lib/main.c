/* Ring 3 begins here: set up, then run what the command line names. */
#include "guest.h"
#include "pvh.h"

extern u64 start_info;
extern const struct program programs_start[], programs_end[];

static char command_line[4096];

const struct pvh_start *pvh_start_info(void) { return (const struct pvh_start *)start_info; }

const char *option(const char *key, const char *otherwise) {
  static char value[256];
  size_t length = strlen(key);
  for (const char *at = command_line; *at != 0;) {
    while (*at == ' ') at++;
    if (strncmp(at, key, length) == 0 && at[length] == '=') {
      size_t size = 0;
      for (at += length + 1; *at != 0 && *at != ' ' && size < sizeof(value) - 1; at++)
        value[size++] = *at;
      value[size] = 0;
      return value;
    }
    while (*at != 0 && *at != ' ') at++;
  }
  return otherwise;
}

u64 option_number(const char *key, u64 otherwise) {
  const char *text = option(key, NULL);
  return text == NULL ? otherwise : parse_number(text);
}

static void run(const char *name, size_t length) {
  for (const struct program *p = programs_start; p < programs_end; p++) {
    if (strlen(p->name) == length && strncmp(p->name, name, length) == 0) {
      p->run();
      return;
    }
  }
  char copy[64] = {0};
  memcpy(copy, name, MIN(length, sizeof(copy) - 1));
  not_ok(copy, "no such program");
}

static void list(void) {
  for (const struct program *p = programs_start; p < programs_end; p++)
    print("program %s\n", p->name);
}
PROGRAM("list", list);

void __attribute__((noreturn, used)) user_main(void) {
  const char *from = (const char *)pvh_start_info()->command_line;
  for (size_t i = 0; from != NULL && from[i] != 0 && i < sizeof(command_line) - 1; i++)
    command_line[i] = from[i];
  memory_init();
  interrupts_init();
  time_init();
  char names[256];
  const char *chosen = option("run", "serial");
  memcpy(names, chosen, strlen(chosen) + 1);
  for (const char *at = names; *at != 0;) {
    size_t length = 0;
    while (at[length] != 0 && at[length] != ',') length++;
    run(at, length);
    at += length;
    if (*at == ',') at++;
  }
  finish();
}
