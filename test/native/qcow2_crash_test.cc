// Random operations, and what is left of them when the host goes down in between.
//
// Every sector that is written holds the number of its write. After a crash a sector may hold what
// it held when the last flush was done, or anything that was written to it since; nothing else.
#include <array>
#include <map>

#include "disk/qcow2/image.h"
#include "qcow2_memory_container.h"
#include "qcow2_test_support.h"

namespace tsvmm::qcow2_test {
namespace {

using Kind = DiskOperation::Kind;
constexpr size_t kSector = 512;
/// What QEMU wrote before, which is no number of ours.
constexpr uint64_t kOldContent = UINT64_MAX;

/// What sectors may hold.
struct Sector {
  uint64_t now = 0;
  uint64_t stable = 0;
  std::vector<uint64_t> since;  ///< written after what is stable

  bool allows(uint64_t tag) const {
    return tag == stable || std::ranges::find(since, tag) != since.end();
  }
};

struct Options {
  const char* name;
  const char* create;
  unsigned with = 0;
};
constexpr unsigned kBacking = 1;
constexpr unsigned kSnapshot = 2;
constexpr unsigned kPrefilled = 4;

/// Whether a sector is all of one write.
bool is_whole(const uint8_t* sector) { return std::memcmp(sector, sector + 8, kSector - 8) == 0; }

class Qcow2Crash : public testing::TestWithParam<Options> {
 protected:
  static constexpr size_t kSize = 384 << 10;
  static constexpr size_t kSectors = kSize / kSector;

  void SetUp() override {
    REQUIRE_QEMU_IMG();
    const Options& options = GetParam();
    std::string create = "qemu-img create -q -f qcow2 -o " + std::string(options.create);
    if ((options.with & kBacking) != 0) {
      base = Bytes(kSize / 2 + 3 * kSector);
      for (size_t i = 0; i < base.size(); i += 8) std::memset(&base[i], 0xff, 8);
      write_file(folder / "base", base);
      create += " -F raw -b " + (folder / "base");
      for (size_t i = 0; i < base.size() / kSector; ++i) set_old(i);
    }
    must(create + " " + path + " " + std::to_string(kSize));
    if ((options.with & kPrefilled) != 0) {
      must("qemu-io -f qcow2 -c 'write -P 0xff 0 200k' " + path);
      for (size_t i = 0; i < (200 << 10) / kSector; ++i) set_old(i);
    }
    if ((options.with & kSnapshot) != 0) must("qemu-img snapshot -c one " + path);
    file = read_file(path);
    open(file);
  }

  void set_old(size_t sector) { model[sector] = {kOldContent, kOldContent, {}}; }

  std::unique_ptr<DiskImage> make_image(std::unique_ptr<MemoryContainer> memory, bool read_only) {
    std::unique_ptr<DiskImage> backing;
    if ((GetParam().with & kBacking) != 0) {
      std::vector<ImageLayer> layers;
      layers.push_back(
          {UniqueFd(::open((folder / "base").c_str(), O_RDONLY | O_CLOEXEC)), ImageFormat::kRaw});
      backing = open_image(std::move(layers), {.read_only = true});
    }
    return std::make_unique<qcow2::Image>(std::move(memory), std::move(backing),
                                          qcow2::ImageSettings{.read_only = read_only});
  }

  void open(const Bytes& bytes) {
    auto memory = std::make_unique<MemoryContainer>(bytes, random(), &file);
    container = memory.get();
    image = make_image(std::move(memory), false);
    for (auto& queue : queues) queue = image->make_queue(4);
    durable = container->bytes();
    container->log().clear();
    carried = 0;
  }
  /// Ends the image in order; it is in `file` then.
  void close() {
    for (auto& queue : queues) queue.reset();
    image.reset();
  }

  /// Begins a new log, with what may still get lost of the old one.
  void settle() {
    auto& log = container->log();
    size_t synced = log.size();
    while (synced > 0 && !log[synced - 1].bytes.empty()) --synced;
    durable.resize(std::max(durable.size(), container->bytes().size()));
    for (size_t i = 0; i < synced; ++i) play(log[i], durable, [] { return true; });
    log.erase(log.begin(), log.begin() + static_cast<ptrdiff_t>(synced));
    carried = log.size();
    previous = model;
  }
  /// Applies a write to `bytes`, of which `takes()` says for each sector whether it gets there.
  template <typename Takes>
  static void play(const MemoryContainer::Event& event, Bytes& bytes, Takes takes) {
    for (size_t at = 0; at < event.bytes.size();) {
      const size_t size =
          std::min<size_t>(kSector - (event.offset + at) % kSector, event.bytes.size() - at);
      if (takes()) std::memcpy(&bytes[event.offset + at], &event.bytes[at], size);
      at += size;
    }
  }

  struct Operation : DiskOperation {
    Bytes bytes;
    iovec buffer{};
    uint64_t tag = 0;
  };

  /// Some operations on ranges that do not overlap, started together on both queues.
  void batch();
  std::unique_ptr<Operation> make_operation();
  void finish(std::vector<std::unique_ptr<Operation>>& operations);
  void crash(bool ask_qemu);
  void crash_at(size_t end, bool ask_qemu);
  Bytes crashed_file(size_t end);
  void expect_model(const Bytes& content);

  TempFolder folder;
  const std::string path = folder / "disk.qcow2";
  Bytes base;
  Bytes file;
  /// --gtest_shuffle with --gtest_repeat tries other sequences.
  std::mt19937_64 random{std::hash<std::string>()(GetParam().name) +
                         static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed())};
  std::vector<Sector> model = std::vector<Sector>(kSectors);
  std::vector<Sector> previous;  ///< the model when the log began
  MemoryContainer* container = nullptr;
  std::unique_ptr<DiskImage> image;
  std::array<std::unique_ptr<DiskQueue>, 2> queues;
  Bytes durable;       ///< the file before the log
  size_t carried = 0;  ///< events of the log that were there when it began
  uint64_t next_tag = 1;
};

std::unique_ptr<Qcow2Crash::Operation> Qcow2Crash::make_operation() {
  auto operation = std::make_unique<Operation>();
  const uint64_t what = random() % 100;
  operation->kind = what < 55   ? Kind::kWrite
                    : what < 65 ? Kind::kWriteZeroes
                    : what < 75 ? Kind::kDiscard
                    : what < 85 ? Kind::kFlush
                                : Kind::kRead;
  if (operation->kind == Kind::kFlush) return operation;
  const size_t longest = random() % 4 == 0 ? 300 : 20;
  const size_t count = 1 + random() % longest;
  const size_t first = random() % kSectors;
  operation->offset = first * kSector;
  operation->length = std::min(count, kSectors - first) * kSector;
  operation->may_unmap = random() % 2 == 0;
  operation->durable = operation->kind == Kind::kWrite && random() % 16 == 0;
  if (operation->kind == Kind::kWrite) {
    operation->tag = next_tag++;
    operation->bytes.resize(operation->length);
    for (size_t i = 0; i < operation->length; i += 8) {
      std::memcpy(&operation->bytes[i], &operation->tag, 8);
    }
  } else if (operation->kind == Kind::kRead) {
    operation->bytes.resize(operation->length);
  }
  operation->buffer = {operation->bytes.data(), operation->bytes.size()};
  if (!operation->bytes.empty()) operation->buffers = {&operation->buffer, 1};
  return operation;
}

void Qcow2Crash::batch() {
  std::vector<std::unique_ptr<Operation>> operations;
  std::vector<bool> taken(kSectors);
  for (size_t wanted = 1 + random() % 4; wanted > 0; --wanted) {
    auto operation = make_operation();
    const size_t first = operation->offset / kSector;
    const size_t end = first + operation->length / kSector;
    bool free = true;
    for (size_t i = first; i < end; ++i) free = free && !taken[i];
    if (!free) continue;
    for (size_t i = first; i < end; ++i) taken[i] = true;
    operations.push_back(std::move(operation));
  }
  finish(operations);
}

void Qcow2Crash::finish(std::vector<std::unique_ptr<Operation>>& operations) {
  std::vector<uint64_t> before(kSectors);
  for (size_t i = 0; i < kSectors; ++i) before[i] = model[i].now;
  // From here on a crash may find any of it.
  std::map<const DiskOperation*, std::pair<uint64_t, uint64_t>> ranges;
  bool flushes = false;
  for (const auto& operation : operations) {
    const size_t first = operation->offset / kSector;
    const size_t end = first + operation->length / kSector;
    ranges[operation.get()] = {first, end};
    flushes |= operation->kind == Kind::kFlush;
    if (operation->kind == Kind::kRead || operation->kind == Kind::kFlush) continue;
    for (size_t i = first; i < end; ++i) model[i].since.push_back(operation->tag);
  }
  std::array<size_t, 2> waiting{};
  for (const auto& operation : operations) {
    const size_t queue = random() % queues.size();
    queues[queue]->start(*operation);
    ++waiting[queue];
  }
  for (size_t queue = 0; queue < queues.size(); ++queue) {
    while (waiting[queue] != 0) {
      queues[queue]->submit();
      while (DiskOperation* ended = queues[queue]->next_completed()) {
        ASSERT_EQ(ended->error, 0);
        --waiting[queue];
      }
    }
  }
  for (size_t i = 0; flushes && i < kSectors; ++i) {
    model[i].stable = before[i];
    model[i].since.clear();
  }
  for (const auto& operation : operations) {
    const auto [first, end] = ranges[operation.get()];
    if (operation->kind == Kind::kFlush) continue;
    Bytes now((end - first) * kSector);
    if (operation->kind == Kind::kRead) {
      now = operation->bytes;
    } else {
      Operation read;
      read.kind = Kind::kRead;
      read.offset = first * kSector;
      read.length = now.size();
      read.buffer = {now.data(), now.size()};
      read.buffers = {&read.buffer, 1};
      queues[0]->start(read);
      while (queues[0]->next_completed() == nullptr) queues[0]->submit();
      ASSERT_EQ(read.error, 0);
    }
    for (size_t i = first; i < end; ++i) {
      uint64_t tag = 0;
      std::memcpy(&tag, &now[(i - first) * kSector], 8);
      ASSERT_TRUE(is_whole(&now[(i - first) * kSector])) << "sector " << i;
      if (operation->kind == Kind::kDiscard) {
        // Old content or zeros, and that from now on.
        ASSERT_TRUE(tag == 0 || tag == before[i]) << "sector " << i;
        model[i].now = tag;
        model[i].since.push_back(0);
      } else {
        const bool changed = operation->kind != Kind::kRead;
        ASSERT_EQ(tag, changed ? operation->tag : model[i].now) << "sector " << i;
        model[i].now = tag;
        if (changed) model[i].since.push_back(tag);
        if (operation->durable) {
          model[i].stable = tag;
          model[i].since.clear();
        }
      }
    }
  }
}

/// The file after a crash at some point of the log: everything up to the sync before, and any of
/// the writes after that.
Bytes Qcow2Crash::crashed_file(size_t end) {
  const auto& log = container->log();
  size_t synced = end;
  while (synced > 0 && !log[synced - 1].bytes.empty()) --synced;
  Bytes crashed = durable;
  crashed.resize(std::max(durable.size(), container->bytes().size()));
  for (size_t i = 0; i < synced; ++i) play(log[i], crashed, [] { return true; });
  // Whole writes or single sectors get lost, depending on the host.
  const uint64_t keeps = 1 + random() % 9;
  const bool tears = random() % 3 == 0;
  for (size_t i = synced; i < end; ++i) {
    const bool whole = random() % 10 < keeps;
    play(log[i], crashed, [&] { return tears ? random() % 10 < keeps : whole; });
  }
  return crashed;
}

void Qcow2Crash::crash(bool ask_qemu) {
  const size_t events = container->log().size();
  crash_at(random() % 3 == 0 ? events : carried + random() % (events - carried + 1), ask_qemu);
}

void Qcow2Crash::crash_at(size_t end, bool ask_qemu) {
  const size_t events = container->log().size();
  const Bytes crashed = crashed_file(end);
  const std::string copy = folder / "crashed.qcow2";
  const bool lazy = std::string(GetParam().create).find("lazy") != std::string::npos;
  if (ask_qemu) {
    write_file(copy, crashed);
    std::string output;
    const Check found = check(copy, &output);
    // What was written lazily is for a repair to find out.
    if (!lazy) ASSERT_NE(found, Check::kCorrupt) << output;
    if (found != Check::kClean) {
      (void)shell("qemu-img check -f qcow2 -r " + std::string(lazy ? "all " : "leaks ") + copy);
      ASSERT_EQ(check(copy, &output), Check::kClean) << output;
    }
  }
  // We must be able to open it for writing, too.
  auto memory = std::make_unique<MemoryContainer>(crashed, random());
  MemoryContainer& reopened = *memory;
  auto again = make_image(std::move(memory), false);
  Disk disk(std::move(again));
  const Bytes content = disk.content();
  for (size_t i = 0; i < kSectors; ++i) {
    uint64_t tag = 0;
    std::memcpy(&tag, &content[i * kSector], 8);
    ASSERT_TRUE(model[i].allows(tag) || (end != events && previous[i].allows(tag)))
        << "sector " << i << " holds " << tag << ", not " << model[i].stable << " or later";
    ASSERT_TRUE(is_whole(&content[i * kSector])) << "sector " << i;
  }
  if (!ask_qemu) return;
  const Bytes bytes(4096, 0x11);
  ASSERT_EQ(disk.write(8192, bytes), 0);
  ASSERT_EQ(disk.write_zeroes(65536, 65536, true), 0);
  ASSERT_EQ(disk.flush(), 0);
  write_file(copy, reopened.bytes());
  if (!lazy) ASSERT_NE(check(copy), Check::kCorrupt);
}

void Qcow2Crash::expect_model(const Bytes& content) {
  for (size_t i = 0; i < kSectors; ++i) {
    uint64_t tag = 0;
    std::memcpy(&tag, &content[i * kSector], 8);
    ASSERT_EQ(tag, model[i].now) << "sector " << i;
  }
}

TEST_P(Qcow2Crash, LeavesAnImageThatHoldsAllThatWasFlushed) {
  constexpr int kBatches = 60;
  for (int i = 0; i < kBatches; ++i) {
    settle();
    batch();
    if (HasFatalFailure()) return;
    // The most can go wrong while a flush is under way.
    const auto& log = container->log();
    const bool flushed = std::any_of(log.begin() + static_cast<ptrdiff_t>(carried), log.end(),
                                     [](const auto& event) { return event.bytes.empty(); });
    // A refcount table is written so rarely that chance would not find out about it.
    const auto table = qcow2::load_be<uint64_t>(container->bytes(), 48);
    for (size_t at = carried; at < log.size(); ++at) {
      if (log[at].offset == table) crash_at(at + 1, true);
      if (HasFatalFailure()) return;
    }
    for (uint64_t left = flushed ? 4 : random() % 2; left > 0; --left) {
      crash(flushed && left == 1 && i % 3 == 0);
      if (HasFatalFailure()) return;
    }
    if (i % 20 != 19) continue;
    close();
    write_file(path, file);
    expect_clean(path);
    expect_model(content_by_qemu(path));
    if (HasFailure()) return;
    for (Sector& sector : model) sector = {sector.now, sector.now, {}};
    open(Bytes(file));
  }
  close();
}

INSTANTIATE_TEST_SUITE_P(
    Images, Qcow2Crash,
    testing::Values(
        Options{"Default", "cluster_size=64k"}, Options{"Small", "cluster_size=4k"},
        Options{"Smallest", "cluster_size=512", kPrefilled},
        Options{"WideRefcounts", "cluster_size=512,refcount_bits=64"},
        Options{"Version2", "compat=0.10,cluster_size=4k", kSnapshot | kPrefilled},
        Options{"Version2Chain", "compat=0.10,cluster_size=4k", kBacking},
        Options{"Snapshot", "cluster_size=4k", kSnapshot | kPrefilled},
        Options{"Chain", "cluster_size=16k", kBacking},
        Options{"SnapshotOfChain", "cluster_size=4k", kBacking | kSnapshot},
        Options{"Subclusters", "cluster_size=16k,extended_l2=on"},
        Options{"SubclusterChain", "cluster_size=64k,extended_l2=on", kBacking},
        Options{"SubclusterSnapshot", "cluster_size=16k,extended_l2=on", kSnapshot | kPrefilled},
        Options{"Lazy", "cluster_size=4k,lazy_refcounts=on"},
        Options{"LazyWithSnapshot", "cluster_size=512,lazy_refcounts=on", kSnapshot | kPrefilled}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tsvmm::qcow2_test
