#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <set>

#include "core/error.h"
#include "disk_test_support.h"
#include "host_calls.h"
#include "machine/machine_commands.h"
#include "machine_fixture.h"
#include "virtio/block_protocol.h"

namespace tsvmm::machine_test {
namespace {

using disk_test::TempImage;
using message_test::MessageBuilder;
using namespace virtio_test;

/// Files whose store hangs: what writes to them, or makes them durable, comes back when it answers.
class HungStore : public disk_test::HostCalls {
 public:
  void hang(int fd) {
    const std::lock_guard lock(mutex_);
    hung_.insert(inode(fd));
  }
  void answer() {
    const std::lock_guard lock(mutex_);
    hung_.clear();
    changed_.notify_all();
  }
  /// Calls that do not come back.
  int waiting() {
    const std::lock_guard lock(mutex_);
    return waiting_;
  }

  ssize_t write(int fd, const iovec* pieces, int count, off_t offset, int flags) override {
    pass(fd);
    return HostCalls::write(fd, pieces, count, offset, flags);
  }
  int sync(int fd) override {
    pass(fd);
    return HostCalls::sync(fd);
  }
  int resize(int fd, off_t size) override {
    pass(fd);
    return HostCalls::resize(fd, size);
  }

 private:
  static ino_t inode(int fd) {
    struct stat info {};
    return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
  }
  void pass(int fd) {
    std::unique_lock lock(mutex_);
    if (hung_.empty() || !hung_.contains(inode(fd))) return;
    ++waiting_;
    changed_.wait(lock, [&] { return !hung_.contains(inode(fd)); });
    --waiting_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<ino_t> hung_;
  int waiting_ = 0;
};

constexpr GuestAddress kRings = 0x10000;
constexpr GuestAddress kHeader = 0x20000;
constexpr GuestAddress kStatus = 0x21000;
constexpr GuestAddress kData = 0x100000;
constexpr uint16_t kQueueSize = 16;
constexpr uint64_t kPmemSize = 2 << 20;
constexpr GuestAddress kPmemMemory = 0x4000000000;

/// A machine with two disks, the first of which hangs when told, and persistent memory.
class HungStoreTest : public MachineTest {
 protected:
  static constexpr unsigned kDisk = 1;
  static constexpr unsigned kOtherDisk = 2;
  static constexpr unsigned kPmem = 3;

  void SetUp() override {
    build(2);
    BootSpec boot = boot_spec();
    add_disk(boot, kDisk, "_disk1", file.fd());
    add_disk(boot, kOtherDisk, "_disk2", other.fd());
    MessageBuilder pmem;
    pmem.writer().map(3).field("size", kPmemSize).key("discardWrites").boolean(false);
    pmem.writer().key("fd");
    pmem.descriptor(pmem_file.get());
    boot.pci.functions.push_back({.id = "_pmem3",
                                  .place = {0, kPmem},
                                  .bar0 = bar_of(kPmem),
                                  .bar2 = kPmemMemory,
                                  .device = device_of("pmem", pmem.take())});
    machine->boot(std::move(boot));
  }
  void TearDown() override {
    store.answer();
    machine.reset();
    EXPECT_TRUE(eventually([] { return threads_named("machine-remains") == 0; }));
    store.retire();
  }

  static void add_disk(BootSpec& boot, unsigned slot, const std::string& id, int fd) {
    boot.pci.functions.push_back(
        {.id = id, .place = {0, slot}, .bar0 = bar_of(slot), .device = disk_on(fd, kQueueSize)});
  }
  DriverQueue& queue(unsigned slot) {
    return queues.try_emplace(slot, *memory, kRings + 0x4000 * GuestAddress{slot}, kQueueSize)
        .first->second;
  }
  void activate(unsigned slot) {
    guest.run(0, [&](AccessHandler& devices) {
      VcpuDriver driver(devices, bar_of(slot));
      driver->negotiate(kAllRingFeatures | (slot == kPmem ? 0 : virtio_block::kFeatureFlush));
      driver->set_up(0, queue(slot).config());
      driver->start();
      EXPECT_EQ(driver->status(), 15);
    });
  }
  void kick(unsigned slot) {
    guest.run(0, [&](AccessHandler& devices) {
      VcpuDriver driver(devices, bar_of(slot));
      driver.mmio_write<uint16_t>(bar_of(slot) + virtio_pci::kNotifyOffset, 0);
    });
  }
  void write_sector(unsigned slot, GuestAddress data = kData) {
    const GuestAddress apart = 0x100 * GuestAddress{slot};
    queue(slot).put(kHeader + apart, virtio_block::RequestHeader{virtio_block::kRequestOut, 0, 0});
    queue(slot).add({{kHeader + apart, 16}, {data, 512}, {kStatus + slot, 1, kWrite}});
    kick(slot);
  }
  void flush_pmem() {
    queue(kPmem).put(kHeader, uint32_t{0});
    queue(kPmem).add({{kHeader, 4}, {kStatus, 4, kWrite}});
    kick(kPmem);
  }
  void fill_data(uint8_t value) { std::ranges::fill(memory->slice(kData, 512).value(), value); }
  bool hangs() {
    return eventually([&] { return store.waiting() == 1; });
  }
  bool served(unsigned slot, uint16_t count) {
    return eventually([&] { return queue(slot).used_index() == count; });
  }

  HungStore store;
  TempImage file{1 << 20};
  TempImage other{1 << 20};
  UniqueFd pmem_file = [] {
    UniqueFd made(::memfd_create("pmem", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(made.get(), kPmemSize), 0);
    return made;
  }();
  std::map<unsigned, DriverQueue> queues;
};

TEST_F(HungStoreTest, APauseFailsWithTheDisksNameAndTheGuestGoesOn) {
  activate(kDisk);
  activate(kOtherDisk);
  store.hang(file.fd());
  write_sector(kDisk);
  ASSERT_TRUE(hangs());
  EXPECT_EQ(code_of([&] { machine->pause(kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "_disk1: the disk does not answer");
  write_sector(kOtherDisk);
  EXPECT_TRUE(served(kOtherDisk, 1)) << "nobody else waits";
  store.answer();
  EXPECT_TRUE(served(kDisk, 1));
  machine->pause();
  machine->resume();
  write_sector(kDisk);
  EXPECT_TRUE(served(kDisk, 2));
}

/// What src/vmm/machineFigures.ts relies on, which asks on JavaScript's only thread.
TEST_F(HungStoreTest, NoQuestionWaitsForACommandThatDoesNotEnd) {
  activate(kDisk);
  store.hang(file.fd());
  write_sector(kDisk);
  ASSERT_TRUE(hangs());
  auto pausing = std::async(std::launch::async, [this] { machine->pause(kTestTimeout); });
  const auto refusal = [this](std::string_view question) {
    MessageBuilder builder;
    builder.writer().text(question);
    Message message = builder.take();
    MessageReader reader(message);
    CborWriter answer;
    return code_of([&] { answer_question(*machine, reader.value(), answer); });
  };
  ASSERT_TRUE(eventually([&] { return refusal("counters") == "EBUSY"; }));
  for (const auto* question : {"counters", "status", "vcpus", "post-codes"}) {
    EXPECT_EQ(refusal(question), "EBUSY") << question;
  }
  EXPECT_EQ(pausing.wait_for(std::chrono::seconds(0)), std::future_status::timeout)
      << "it is still at it";
  store.answer();
  pausing.get();
  EXPECT_EQ(refusal("counters"), "");
}

TEST_F(HungStoreTest, AResetInFlightHoldsNeitherItsVcpuNorAPauseForEver) {
  activate(kDisk);
  store.hang(file.fd());
  write_sector(kDisk);
  ASSERT_TRUE(hangs());
  uint8_t status = 0;
  guest.run(1, [&](AccessHandler& devices) {
    VcpuDriver driver(devices, bar_of(kDisk));
    driver->set_status(0);
    status = driver->status();
  });
  EXPECT_EQ(status, 15) << "until nothing is in flight";
  EXPECT_EQ(code_of([&] { machine->pause(kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "_disk1: the disk does not answer");
  store.answer();
  EXPECT_TRUE(eventually([&] {
    guest.run(
        1, [&](AccessHandler& devices) { status = VcpuDriver(devices, bar_of(kDisk))->status(); });
    return status == 0;
  }));
  machine->pause();
  machine->resume();
}

TEST_F(HungStoreTest, TheEndNamesTheDiskAndKeepsWhatItUses) {
  activate(kDisk);
  activate(kOtherDisk);
  fill_data(0x5a);
  store.hang(file.fd());
  write_sector(kDisk);
  ASSERT_TRUE(hangs());
  // The others have time enough.
  EXPECT_EQ(code_of([&] { machine->destroy(std::chrono::seconds(5)); }), "ETIMEDOUT");
  EXPECT_EQ(message, "_disk1: the disk does not answer. Memory and files are kept until then");
  EXPECT_EQ(open_descriptors_of(other.fd()), 1u) << "the other disk is closed";
  EXPECT_GT(open_descriptors_of(file.fd()), 1u);
  machine.reset();
  store.answer();
  EXPECT_TRUE(eventually([&] { return open_descriptors_of(file.fd()) == 1; }));
  // What was in flight came from guest memory, which was still there.
  EXPECT_EQ(file.read(0, 512), std::vector<uint8_t>(512, 0x5a));
}

TEST_F(HungStoreTest, TheEndOfAPausedMachineIsTheSame) {
  activate(kDisk);
  machine->pause();
  store.hang(file.fd());
  machine->destroy(kTestTimeout);
  EXPECT_EQ(open_descriptors_of(file.fd()), 1u) << "nothing was in flight";
}

TEST_F(HungStoreTest, PersistentMemoryThatDoesNotBecomeDurable) {
  activate(kPmem);
  store.hang(pmem_file.get());
  flush_pmem();
  ASSERT_TRUE(hangs());
  EXPECT_EQ(code_of([&] { machine->pause(kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "_pmem3: the file of the persistent memory does not answer");
  EXPECT_EQ(code_of([&] { machine->destroy(kShort); }), "ETIMEDOUT");
  store.answer();
  EXPECT_TRUE(eventually([&] { return open_descriptors_of(pmem_file.get()) == 1; }));
}

TEST_F(HungStoreTest, MemoryThatADiskTransfersFromIsRemovedWhenThatIsOver) {
  activate(kDisk);
  activate(kOtherDisk);
  std::ranges::fill(memory->slice(kPmemMemory, 512).value(), uint8_t{0x77});
  store.hang(file.fd());
  write_sector(kDisk, kPmemMemory);
  ASSERT_TRUE(hangs());
  machine->request_unplug("_pmem3");
  EXPECT_EQ(code_of([&] { machine->finish_unplug("_pmem3", true, kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "_disk1: the disk does not answer");
  EXPECT_GT(open_descriptors_of(pmem_file.get()), 1u);
  EXPECT_FALSE(memory->slice(kPmemMemory, 1)) << "nobody finds it any more";
  write_sector(kOtherDisk);
  EXPECT_TRUE(served(kOtherDisk, 1)) << "the others go on";
  store.answer();
  machine->finish_unplug("_pmem3", true);
  EXPECT_EQ(open_descriptors_of(pmem_file.get()), 1u);
  EXPECT_TRUE(served(kDisk, 1));
  EXPECT_EQ(file.read(0, 512), std::vector<uint8_t>(512, 0x77));
  write_sector(kDisk);
  EXPECT_TRUE(served(kDisk, 2));
}

TEST_F(HungStoreTest, RingsInMemoryThatIsRemovedHarmNobody) {
  queues.try_emplace(kDisk, *memory, kPmemMemory + 4096, kQueueSize);
  activate(kDisk);
  write_sector(kDisk);
  EXPECT_TRUE(served(kDisk, 1));
  const auto rings = memory->slice(kPmemMemory, kPmemSize).value();
  std::vector<uint8_t> before(kPmemSize);
  ASSERT_EQ(::pread(pmem_file.get(), before.data(), kPmemSize, 0), ssize_t{kPmemSize});
  machine->request_unplug("_pmem3");
  machine->finish_unplug("_pmem3", true);
  kick(kDisk);
  machine->pause();
  machine->resume();
  std::ranges::fill(rings, uint8_t{0xff});
  kick(kDisk);
  EXPECT_TRUE(eventually([&] { return !sink.of(MachineEvent::Type::kDeviceFailed).empty(); }))
      << "the disk's rings are nonsense now";
  std::vector<uint8_t> after(kPmemSize);
  ASSERT_EQ(::pread(pmem_file.get(), after.data(), kPmemSize, 0), ssize_t{kPmemSize});
  EXPECT_EQ(after, before) << "the file is nobody's any more";
}

TEST_F(HungStoreTest, AChangeOfSizeThatDoesNotEnd) {
  activate(kDisk);
  store.hang(file.fd());
  EXPECT_EQ(code_of([&] { resize_disk("_disk1", 2 << 20, kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "_disk1: the disk does not answer");
  EXPECT_EQ(code_of([&] { resize_disk("_disk2", 2 << 20); }), "");
  EXPECT_EQ(code_of([&] { machine->pause(kShort); }), "ETIMEDOUT");
  store.answer();
  EXPECT_TRUE(eventually([&] { return file.size() == 2 << 20; }));
  machine->pause();
  machine->resume();
  write_sector(kDisk);
  EXPECT_TRUE(served(kDisk, 1));
}

}  // namespace
}  // namespace tsvmm::machine_test
