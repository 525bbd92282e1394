/* Text on the first serial port. */
#include <stdarg.h>

#include "format.h"
#include "guest.h"

#define SERIAL_PORT 0x3f8

struct sink {
  char *at, *end;
};

static void put(struct sink *sink, char c) {
  if (sink->at < sink->end) *sink->at++ = c;
}

static void put_number(struct sink *sink, u64 value, u32 base, u32 width, char pad) {
  char digits[24];
  u32 count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  for (; width > count; width--) put(sink, pad);
  while (count != 0) put(sink, digits[--count]);
}

size_t format_text(char *buffer, size_t size, const char *format, va_list values) {
  struct sink sink = {buffer, buffer + size};
  for (; *format != 0; format++) {
    if (*format != '%') {
      put(&sink, *format);
      continue;
    }
    format++;
    char pad = *format == '0' ? '0' : ' ';
    u32 width = 0;
    for (; *format >= '0' && *format <= '9'; format++) width = width * 10 + (u32)(*format - '0');
    bool wide = *format == 'l';
    if (wide) format++;
    if (*format == 's') {
      for (const char *s = va_arg(values, const char *); *s != 0; s++) put(&sink, *s);
    } else if (*format == 'c') {
      put(&sink, (char)va_arg(values, int));
    } else if (*format == '%') {
      put(&sink, '%');
    } else if (*format == 'd') {
      long value = wide ? va_arg(values, long) : va_arg(values, int);
      if (value < 0) put(&sink, '-');
      put_number(&sink, (u64)(value < 0 ? -value : value), 10, width, pad);
    } else {
      u64 value = wide ? va_arg(values, u64) : va_arg(values, u32);
      put_number(&sink, value, *format == 'x' ? 16 : 10, width, pad);
    }
  }
  return (size_t)(sink.at - buffer);
}

void print_bytes(const void *bytes, size_t size) { outs(SERIAL_PORT, bytes, size); }

void print(const char *format, ...) {
  char buffer[512];
  va_list values;
  va_start(values, format);
  size_t size = format_text(buffer, sizeof(buffer), format, values);
  va_end(values);
  print_bytes(buffer, size);
}
