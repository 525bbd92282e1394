#include "guest.h"

static void serial(void) {
  print("hello from ring %u\n", ({
          u64 cs;
          __asm__("mov %%cs, %0" : "=r"(cs));
          (u32)cs & 3;
        }));
  ok("serial");
}
PROGRAM("serial", serial);
