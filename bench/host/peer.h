/* The other end of the vsock guest's connection (bench/guest/stream.h). */
#pragma once
#include "host.h"

/* Listens on PATH_5000 and serves connections, one after another, in a child process on `cpu`. */
void start_peer(const char* path, unsigned cpu);
/* What the socket pair (pair.c) does, too. */
void fill_content(void);
uint64_t sink_stream(int fd,
                     uint64_t bytes); /* returns how many words were wrong; ~0 if it ended early */
void source_stream(int fd, uint64_t bytes, size_t packet); /* packet: at most 64 KiB */
