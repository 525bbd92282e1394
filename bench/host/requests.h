/* Requests to a VMM's API. They are lines of a file: ENDPOINT BODY. */
#pragma once
#include "host.h"

/* Prints `answer STATUS NANOSECONDS` for each, and `refused ENDPOINT: TEXT` for what is no success.
 */
void ask_all(const char* socket_path, const char* requests, unsigned gap_ms);
/* The same in a child process, which prints `asked` at its end. */
void start_asking(const char* socket_path, const char* requests, unsigned gap_ms);
