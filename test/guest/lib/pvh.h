/* The PVH boot protocol's start info (Xen, "x86/HVM direct boot ABI"). */
#pragma once
#include "guest.h"

struct pvh_start {
  u32 magic, version, flags, modules;
  u64 module_list, command_line, rsdp, memory_map;
  u32 memory_map_entries, reserved;
};
struct pvh_memory {
  u64 address, size;
  u32 type, reserved;
};
struct pvh_module {
  u64 address, size, command_line, reserved;
};
#define PVH_MAGIC 0x336ec578

const struct pvh_start *pvh_start_info(void);
