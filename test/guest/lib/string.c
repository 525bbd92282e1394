#include "guest.h"

void *memset(void *to, int value, size_t size) {
  void *at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
  return to;
}

void *memcpy(void *to, const void *from, size_t size) {
  void *at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
  return to;
}

int memcmp(const void *a, const void *b, size_t size) {
  const u8 *x = a, *y = b;
  for (; size != 0; x++, y++, size--) {
    if (*x != *y) return *x - *y;
  }
  return 0;
}

size_t strlen(const char *s) {
  size_t length = 0;
  while (s[length] != 0) length++;
  return length;
}

int strncmp(const char *a, const char *b, size_t size) {
  for (; size != 0; a++, b++, size--) {
    if (*a != *b || *a == 0) return (u8)*a - (u8)*b;
  }
  return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, ~(size_t)0); }

u64 parse_number(const char *s) {
  u64 base = 10, value = 0;
  if (s[0] == '0' && s[1] == 'x') {
    base = 16;
    s += 2;
  }
  for (;; s++) {
    u64 digit = *s >= '0' && *s <= '9'   ? (u64)(*s - '0')
                : *s >= 'a' && *s <= 'f' ? (u64)(*s - 'a' + 10)
                                         : 99;
    if (digit >= base) return value;
    value = value * base + digit;
  }
}
