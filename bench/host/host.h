/*
 * The benchmarks' helper on the host: what a script cannot do exactly enough. See main.c for its
 * commands. Figures go to standard output, one a line, each a word and its values.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- main.c */
void fail(const char* format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* The same with what errno says. */
void fail_errno(const char* what) __attribute__((noreturn));
/* The option's value in argv (`--name VALUE`), else `otherwise`. */
const char* option(char** argv, const char* name, const char* otherwise);
uint64_t option_number(char** argv, const char* name, uint64_t otherwise);

/* ---- host.c */
uint64_t now_ns(void); /* CLOCK_MONOTONIC */
uint64_t read_tsc(void);
/* Restricts a thread to one CPU; a CPU that is not there is ignored. */
void pin_thread(pid_t thread, unsigned cpu);
/* Keeps the CPUs out of deep sleep, and this process ahead of others, for as long as it lives,
 * where allowed. */
void steady_host(void);
void write_all(int fd, const void* bytes, size_t size);
bool read_exactly(int fd, void* bytes, size_t size); /* false at the end of the file */

/* ---- commands: argv as given after the command's name, ends with NULL */
int command_image(char** argv);
int command_repage(char** argv);
int command_check(char** argv);
int command_run(char** argv);
int command_pair(char** argv);
int command_doorbell(char** argv);
int command_ask(char** argv);
int command_slots(char** argv);
