/* What RAM there is, pages from it, and windows to addresses above 4 GiB. */
#include "guest.h"
#include "pvh.h"

#define GIB4 0x100000000ul
#define LARGE_PAGE 0x200000ul
#define WINDOW_BASE 0x8000000000ul /* PML4[1] */

extern u64 window_pd[512];
extern u8 image_end[];

struct memory_region memory_map[32];
u32 memory_map_count;
static u64 next_page, last_page;
static u32 windows;

u64 low_memory_end(void) {
  u64 end = 0;
  for (u32 i = 0; i < memory_map_count; i++) {
    const struct memory_region *r = &memory_map[i];
    if (r->type == 1 && r->address < GIB4) end = MAX(end, r->address + r->size);
  }
  return end;
}

void memory_init(void) {
  const struct pvh_memory *entries = (const void *)pvh_start_info()->memory_map;
  for (u32 i = 0; i < pvh_start_info()->memory_map_entries && i < ARRAY_SIZE(memory_map); i++)
    memory_map[memory_map_count++] =
        (struct memory_region){entries[i].address, entries[i].size, entries[i].type};
  next_page = ALIGN_UP((u64)image_end, LARGE_PAGE);
  last_page = low_memory_end();
}

void *alloc_aligned(size_t size, size_t alignment) {
  u64 at = ALIGN_UP(next_page, MAX(alignment, 4096));
  if (size > last_page - at) {
    not_ok("memory", "%lu bytes do not fit", size);
    finish();
  }
  next_page = at + ALIGN_UP(size, 4096);
  return memset((void *)at, 0, size);
}

void *alloc(size_t size) { return alloc_aligned(size, 4096); }
size_t alloc_mark(void) { return next_page; }
void alloc_release(size_t mark) { next_page = mark; }

void *map_physical(u64 address, u64 size) {
  if (address < GIB4 && size <= GIB4 - address) return (void *)address;
  u64 start = address & ~(LARGE_PAGE - 1);
  u64 pages = (ALIGN_UP(address + size, LARGE_PAGE) - start) / LARGE_PAGE;
  /* The same window serves the same address again. */
  for (u32 i = 0; i + pages <= windows; i++) {
    if ((window_pd[i] & ~0xffful) == start)
      return (void *)(WINDOW_BASE + i * LARGE_PAGE + (address - start));
  }
  if (windows + pages > ARRAY_SIZE(window_pd)) {
    not_ok("memory", "no window left for 0x%lx", address);
    finish();
  }
  u64 base = WINDOW_BASE + windows * LARGE_PAGE;
  for (u64 i = 0; i < pages; i++) window_pd[windows++] = (start + i * LARGE_PAGE) | 0x87;
  return (void *)(base + (address - start));
}
