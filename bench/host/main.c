/*
 * bench-host COMMAND [OPTIONS]
 *
 *   image FILE BYTES SEED [--sync 1]    makes or repairs a disk image of known content
 *   repage FROM TO                      copies in such pieces that the page cache has small pages
 *   check FILE SEED                     counts whose content its 4 KiB units have
 *   run [OPTIONS] -- PROGRAM [ARG...]   runs a VMM with the measuring guest (run.c)
 *   pair [--bytes N] [--packet N]       a UNIX socket pair's throughput (pair.c)
 *   doorbell --guest F --cmdline TEXT   the time from doorbell to interrupt (doorbell.c)
 *   ask --api SOCKET --requests FILE    times requests to a VMM's API (requests.c)
 *   slots [--count N]                   what registering memory late costs (slots.c)
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

void fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  fputs("bench-host: ", stderr);
  vfprintf(stderr, format, values);
  va_end(values);
  fputc('\n', stderr);
  exit(2);
}

void fail_errno(const char* what) { fail("%s: %s", what, strerror(errno)); }

const char* option(char** argv, const char* name, const char* otherwise) {
  for (; argv[0] != NULL && argv[1] != NULL && strcmp(argv[0], "--") != 0; argv++)
    if (strcmp(argv[0], name) == 0) return argv[1];
  return otherwise;
}

uint64_t option_number(char** argv, const char* name, uint64_t otherwise) {
  const char* text = option(argv, name, NULL);
  return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

static const struct {
  const char* name;
  int (*run)(char** argv);
} commands[] = {
    {"image", command_image}, {"repage", command_repage}, {"check", command_check},
    {"run", command_run},     {"pair", command_pair},     {"doorbell", command_doorbell},
    {"ask", command_ask},     {"slots", command_slots},
};

int main(int argc, char** argv) {
  for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp(commands[i].name, argv[1]) == 0) return commands[i].run(argv + 2);
  fail("no such command");
}
