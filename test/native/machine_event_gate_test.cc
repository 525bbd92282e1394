#include <atomic>
#include <thread>

#include "machine/event_gate.h"
#include "machine_fixture.h"

namespace tsvmm::machine_test {
namespace {

using Type = MachineEvent::Type;

TEST(EventGate, OfEventsThatEndTheRunOnlyTheFirstPasses) {
  RecordingSink sink;
  EventGate gate(sink);
  int stops = 0;
  gate.on_end_of_run([&stops] { ++stops; });
  gate.report(device_event(Type::kDeviceNote, "_disk0", "slow"));
  gate.report(device_event(Type::kReset, {}, "acpi"));
  gate.report(device_event(Type::kPowerOff, {}, {}));
  gate.report(device_event(Type::kDeviceNote, "_disk0", "gone"));
  EXPECT_EQ(sink.of(Type::kReset).size(), 1U);
  EXPECT_EQ(sink.of(Type::kPowerOff).size(), 0U);
  EXPECT_EQ(sink.of(Type::kDeviceNote).size(), 2U) << "devices are heard after the end, too";
  EXPECT_EQ(stops, 1);
}

TEST(EventGate, TheGuestStopsBeforeAnybodyHearsOfItsEnd) {
  RecordingSink sink;
  EventGate gate(sink);
  size_t heard_at_stop = 1;
  gate.on_end_of_run([&] { heard_at_stop = sink.count(); });
  gate.report(device_event(Type::kPowerOff, {}, {}));
  EXPECT_EQ(heard_at_stop, 0U);
  EXPECT_EQ(sink.count(), 1U);
}

TEST(EventGate, ARunThatEndsWithoutAnEventHasNone) {
  RecordingSink sink;
  EventGate gate(sink);
  gate.end_run();
  gate.report(device_event(Type::kReset, {}, "watchdog"));
  gate.report(device_event(Type::kDeviceFailed, "_net0", "bad ring"));
  EXPECT_EQ(sink.of(Type::kReset).size(), 0U);
  EXPECT_EQ(sink.of(Type::kDeviceFailed).size(), 1U);
}

TEST(EventGate, NothingPassesAfterItIsClosedWhileOthersReport) {
  auto sink = std::make_unique<RecordingSink>();
  EventGate gate(*sink);
  std::atomic<bool> over = false;
  std::thread reporter([&] {
    while (!over) gate.report(device_event(Type::kDeviceNote, "_disk0", "slow"));
  });
  EXPECT_TRUE(eventually([&] { return sink->count() > 0; }));
  gate.close();
  sink.reset();  // a late event would touch freed memory, which the sanitizer tells
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  over = true;
  reporter.join();
}

}  // namespace
}  // namespace tsvmm::machine_test
