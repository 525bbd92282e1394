/* Requests that an IOMMU must refuse, as many mappings as it takes, and requests that wait. The
 * first disk is behind it, the second (the witness of hostile-iommu-smp) is not. */
#include "iommu.h"

#include "hostile.h"

#define DOMAIN 7
#define PAGE 4096ul
#define BATCH 128

static struct iommu iommu;
static struct block disk;
static u32 endpoint;

static bool open_both(void) {
  if (!check("iommu-device", iommu_open(&iommu), "none")) return false;
  victim_open(&disk, F_EVENT_IDX);
  endpoint = iommu_endpoint(disk.device.slot);
  return true;
}

/* All of RAM, at its own addresses. */
static u8 map_all(void) {
  return iommu_map(&iommu, DOMAIN, 0, low_memory_end() - 1, 0, IOMMU_READ | IOMMU_WRITE);
}

static u8 read_sector(void) {
  static u8 *data;
  if (data == NULL) data = alloc(SECTOR);
  return block_request(&disk, BLOCK_IN, 1, data, SECTOR);
}

/* The disk works by translated addresses, and by none that are not mapped. */
static void judge_iommu(const char *name) {
  iommu_reopen(&iommu);
  u8 attached = iommu_attach(&iommu, DOMAIN, endpoint), mapped = map_all();
  block_reopen(&disk);
  u8 with = read_sector(), unmapped = iommu_unmap(&iommu, DOMAIN, 0, ~0ul);
  block_reopen(&disk);
  u8 without = read_sector(), detached = iommu_detach(&iommu, DOMAIN, endpoint);
  block_reopen(&disk);
  u8 beside = read_sector();
  check(name,
        attached == IOMMU_OK && mapped == IOMMU_OK && with == BLOCK_OK && unmapped == IOMMU_OK &&
            without == BLOCK_BROKEN && detached == IOMMU_OK && beside == BLOCK_OK,
        "attach %u map %u disk 0x%x unmap %u disk 0x%x detach %u disk 0x%x", attached, mapped, with,
        unmapped, without, detached, beside);
}

/* Any length of any type, and any room for the answer. */
static void shapes(void) {
  u32 answered = 0, wrong = 0;
  for (u32 type = 0; type < 256; type = type < 8 ? type + 1 : type * 2 - 1) {
    for (u32 length = 0; length < 80; length += length < 40 ? 1 : 7) {
      for (u32 room = 0; room < 140; room += room < 8 ? 1 : 11) {
        memset(iommu.request, 0xff, sizeof(*iommu.request));
        iommu.request->type = (u8)type;
        u8 status = iommu_send(&iommu, length, room);
        if (length == 0 && room == 0) continue;
        if (status != IOMMU_NO_ANSWER) answered++;
        /* Nothing of this is right. */
        if (status == IOMMU_OK) wrong++;
      }
    }
  }
  check("iommu-shapes", answered > 1000 && wrong == 0, "%u answered, %u carried out", answered,
        wrong);
}

static void expect(const char *name, u8 status, u8 wanted) {
  check(name, status == wanted, "status %u", status);
}

static u8 raw_attach(u8 type, u32 where, u32 flags, u32 reserved) {
  memset(iommu.request, 0, sizeof(*iommu.request));
  iommu.request->type = type;
  iommu.request->attach.domain = DOMAIN;
  iommu.request->attach.endpoint = where;
  iommu.request->attach.flags = flags;
  iommu.request->attach.reserved = reserved;
  return iommu_send(&iommu, IOMMU_SIZE(attach), IOMMU_TAIL);
}

static void endpoints(void) {
  static const u32 nobody[] = {0, 1, 0xf8, 0xffff, 0x10000, 0x80000000, 0xffffffff};
  for (u32 i = 0; i < ARRAY_SIZE(nobody); i++) {
    if (nobody[i] == endpoint) continue;
    expect("iommu-attach-nobody", iommu_attach(&iommu, DOMAIN, nobody[i]), IOMMU_NO_ENTRY);
    expect("iommu-detach-nobody", iommu_detach(&iommu, DOMAIN, nobody[i]), IOMMU_NO_ENTRY);
  }
  expect("iommu-attach-flags", raw_attach(IOMMU_ATTACH, endpoint, ~0u, 0), IOMMU_INVALID);
  expect("iommu-attach-reserved", raw_attach(IOMMU_ATTACH, endpoint, 0, 1), IOMMU_INVALID);
  expect("iommu-detach-reserved", raw_attach(IOMMU_DETACH, endpoint, 1, 0), IOMMU_INVALID);
  expect("iommu-detach-early", iommu_detach(&iommu, DOMAIN, endpoint), IOMMU_INVALID);
  expect("iommu-map-early", map_all(), IOMMU_NO_ENTRY);
  expect("iommu-unmap-early", iommu_unmap(&iommu, DOMAIN, 0, ~0ul), IOMMU_NO_ENTRY);
  expect("iommu-attach", iommu_attach(&iommu, DOMAIN, endpoint), IOMMU_OK);
  expect("iommu-detach-elsewhere", iommu_detach(&iommu, DOMAIN + 1, endpoint), IOMMU_INVALID);
  expect("iommu-detach", iommu_detach(&iommu, DOMAIN, endpoint), IOMMU_OK);
  expect("iommu-detach-twice", iommu_detach(&iommu, DOMAIN, endpoint), IOMMU_INVALID);
}

static void mappings(void) {
  u64 none = ~0ul, both = IOMMU_READ | IOMMU_WRITE;
  const struct {
    const char *name;
    u64 first, last, address;
    u32 flags;
    u8 wanted;
  } cases[] = {
      {"iommu-map-backwards", PAGE, 0, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-short", 0, PAGE - 2, 0, (u32)both, IOMMU_RANGE},
      {"iommu-map-odd", 1, PAGE - 1, 0, (u32)both, IOMMU_RANGE},
      {"iommu-map-to-odd", 0, PAGE - 1, 1, (u32)both, IOMMU_RANGE},
      {"iommu-map-wraps", 0, 2 * PAGE - 1, none - PAGE + 1, (u32)both, IOMMU_RANGE},
      {"iommu-map-messages", 0xfee00000, 0xfee00fff, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-everything", 0, none, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-flags", 0, PAGE - 1, 0, ~0u, IOMMU_INVALID},
      {"iommu-map", 4 * PAGE, 8 * PAGE - 1, 0, (u32)both, IOMMU_OK},
      {"iommu-map-twice", 4 * PAGE, 8 * PAGE - 1, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-over-begin", 3 * PAGE, 5 * PAGE - 1, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-over-end", 7 * PAGE, 9 * PAGE - 1, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-inside", 5 * PAGE, 6 * PAGE - 1, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-around", 0, 16 * PAGE - 1, 0, (u32)both, IOMMU_INVALID},
      {"iommu-map-to-hole", 32 * PAGE, 33 * PAGE - 1, hole_address(), (u32)both, IOMMU_OK},
      {"iommu-map-far", none - PAGE + 1, none, 1ul << 60, (u32)both, IOMMU_OK},
      {"iommu-map-for-nothing", 64 * PAGE, 65 * PAGE - 1, 0, 0, IOMMU_OK},
  };
  expect("iommu-attach", iommu_attach(&iommu, DOMAIN, endpoint), IOMMU_OK);
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    expect(
        cases[i].name,
        iommu_map(&iommu, DOMAIN, cases[i].first, cases[i].last, cases[i].address, cases[i].flags),
        cases[i].wanted);
  }
  expect("iommu-unmap-part", iommu_unmap(&iommu, DOMAIN, 5 * PAGE, none), IOMMU_RANGE);
  expect("iommu-unmap-backwards", iommu_unmap(&iommu, DOMAIN, PAGE, 0), IOMMU_INVALID);
  expect("iommu-unmap-nothing", iommu_unmap(&iommu, DOMAIN, 128 * PAGE, 129 * PAGE - 1), IOMMU_OK);
  expect("iommu-unmap-all", iommu_unmap(&iommu, DOMAIN, 0, none), IOMMU_OK);
}

/* Bytes of the configuration that are not the driver's. */
static void configuration(void) {
  u8 bypass = read8(iommu.device.config + IOMMU_CONFIG_BYPASS);
  for (u32 at = 0; at < 64; at++) {
    write8(iommu.device.config + at, at == IOMMU_CONFIG_BYPASS ? 2 : 0xff);
    write32(iommu.device.config + (at & ~3u), ~0u);
    read64(iommu.device.config + at);
  }
  check("iommu-config",
        read8(iommu.device.config + IOMMU_CONFIG_BYPASS) == bypass &&
            read32(iommu.device.config + IOMMU_CONFIG_PROBE_SIZE) == 64,
        "changed");
}

static void requests(void) {
  if (!open_both()) return;
  shapes();
  endpoints();
  mappings();
  configuration();
  judge_iommu("iommu-after");
}
PROGRAM("hostile-iommu", requests);

/* Fills a queue with mappings of one page each, from page `page` on; how many the device made. */
static u32 map_batch(struct iommu_request *batch, volatile u8 *answers, u64 page) {
  u32 id, length, made = 0;
  for (u32 i = 0; i < BATCH; i++) {
    batch[i] = (struct iommu_request){.type = IOMMU_MAP};
    batch[i].map.domain = DOMAIN;
    /* Every other page, so that none are one. */
    batch[i].map.first = (1ul << 40) + 2 * (page + i) * PAGE;
    batch[i].map.last = batch[i].map.first + PAGE - 1;
    batch[i].map.flags = IOMMU_READ;
    struct buffer buffers[] = {{&batch[i], IOMMU_SIZE(map)},
                               {answers + IOMMU_TAIL * i, IOMMU_TAIL}};
    virtqueue_add(&iommu.requests, buffers, 1, 1);
  }
  virtqueue_kick(&iommu.requests);
  for (u32 i = 0; i < BATCH; i++)
    if (!virtqueue_wait(&iommu.requests, &id, &length, 20000000)) return 0;
  for (u32 i = 0; i < BATCH; i++)
    if (answers[IOMMU_TAIL * i] == IOMMU_OK) made++;
  return made;
}

/* As many mappings as there may be, which all go by one request; and many that go with their
 * domain. */
static void storm(void) {
  if (!open_both()) return;
  struct iommu_request *batch = alloc(BATCH * sizeof(*batch));
  u8 *answers = alloc(4096);
  u64 made = 0, again = 0;
  iommu_attach(&iommu, DOMAIN, endpoint);
  for (u32 now = BATCH; now == BATCH; made += now) now = map_batch(batch, answers, made);
  expect("iommu-full", map_all(), IOMMU_NO_MEMORY);
  check("iommu-mappings", made == option_number("mappings", 1 << 20), "%lu", made);
  expect("iommu-unmap-full", iommu_unmap(&iommu, DOMAIN, 0, ~0ul), IOMMU_OK);
  for (u32 now = BATCH; now == BATCH && again < made / 16; again += now)
    now = map_batch(batch, answers, again);
  expect("iommu-detach-many", iommu_detach(&iommu, DOMAIN, endpoint), IOMMU_OK);
  judge_iommu("iommu-after");
}
PROGRAM("hostile-iommu-storm", storm);

/* The disk has one request for each minute: the second is in flight for so long, and all that would
 * end its mapping has to wait. */
static void waits(void) {
  if (!open_both()) return;
  iommu_attach(&iommu, DOMAIN, endpoint);
  map_all();
  block_reopen(&disk);
  u8 *data = alloc(4096);
  for (u32 i = 0; i < 4; i++) block_submit(&disk, BLOCK_IN, 1, data + i * SECTOR, SECTOR);
  virtqueue_notify(&disk.queue);
  delay_us(100000);
  struct iommu_request *all = alloc(4096);
  *all = (struct iommu_request){.type = IOMMU_UNMAP};
  all->unmap.domain = DOMAIN;
  all->unmap.last = ~0ul;
  for (u32 i = 0; i < BATCH; i++) {
    struct buffer buffers[] = {{all, IOMMU_SIZE(unmap)},
                               {iommu.answer + IOMMU_TAIL * i, IOMMU_TAIL}};
    virtqueue_add(&iommu.requests, buffers, 1, 1);
  }
  virtqueue_kick(&iommu.requests);
  print("iommu waits\n");
  u32 id, length, answered = 0;
  while (answered < BATCH && virtqueue_wait(&iommu.requests, &id, &length, 100000000)) answered++;
  check("iommu-waits", answered == BATCH, "%u of %u", answered, BATCH);
}
PROGRAM("hostile-iommu-waits", waits);
