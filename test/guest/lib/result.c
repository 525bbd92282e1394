/* The protocol with the host's test: `ok NAME [text]`, `not ok NAME: why`, and at the end `done N`.
 */
#include <stdarg.h>

#include "format.h"
#include "guest.h"

static u32 results;

static void report(const char *verdict, const char *name, const char *between, const char *format,
                   va_list values) {
  char text[256];
  size_t size = format_text(text, sizeof(text) - 1, format, values);
  text[size] = 0;
  results++;
  print("%s %s%s%s\n", verdict, name, size != 0 ? between : "", text);
}

void ok(const char *name) { ok_because(name, "%s", ""); }

void ok_because(const char *name, const char *format, ...) {
  va_list values;
  va_start(values, format);
  report("ok", name, " ", format, values);
  va_end(values);
}

void not_ok(const char *name, const char *format, ...) {
  va_list values;
  va_start(values, format);
  report("not ok", name, ": ", format, values);
  va_end(values);
}

bool check(const char *name, bool condition, const char *format, ...) {
  if (condition) {
    ok(name);
    return true;
  }
  va_list values;
  va_start(values, format);
  report("not ok", name, ": ", format, values);
  va_end(values);
  return false;
}

void finish(void) {
  print("done %u\n", results);
  if (strcmp(option("then", "off"), "idle") == 0) halt_forever();
  power_off();
}
