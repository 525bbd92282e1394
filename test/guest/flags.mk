# How freestanding guests are compiled and linked; the including file sets `base` to this folder.
CC ?= gcc
# No SSE: interrupts save general registers only, and KVM's emulator runs our ring 0.
CFLAGS := -std=c11 -O2 -g -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only \
  -mcmodel=small -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none \
  -fno-builtin -Wall -Wextra -Werror -I$(base)/lib
LDFLAGS := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=0x1000 -Wl,-z,noexecstack
