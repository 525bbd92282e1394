#pragma once
#include <stdarg.h>

#include "guest.h"

/* Returns the bytes written, at most size; no terminating zero. */
size_t format_text(char *buffer, size_t size, const char *format, va_list values);
