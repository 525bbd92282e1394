#include "device/serial.h"
#include "device_test_support.h"

namespace tsvmm {
namespace {

constexpr uint64_t kData = 0;
constexpr uint64_t kIer = 1;
constexpr uint64_t kIir = 2;
constexpr uint64_t kFcr = 2;
constexpr uint64_t kLcr = 3;
constexpr uint64_t kMcr = 4;
constexpr uint64_t kLsr = 5;
constexpr uint64_t kMsr = 6;
constexpr uint64_t kScr = 7;

class SerialTest : public testing::Test {
 protected:
  SerialTest() {
    auto owned = std::make_unique<BoundedBackend>();
    backend = owned.get();
    device = std::make_unique<Serial>(line, std::move(owned));
  }
  uint8_t in(uint64_t offset) { return read8(*device, offset); }
  void out(uint64_t offset, uint8_t value) { write8(*device, offset, value); }
  void type(std::string_view text) { backend->client->input(bytes_of(text)); }
  /// Triggers since the last call.
  int triggers() { return line.triggers.exchange(0); }

  RecordingLine line;
  BoundedBackend* backend = nullptr;
  std::unique_ptr<Serial> device;
};

TEST_F(SerialTest, ResetState) {
  EXPECT_EQ(in(kIer), 0);
  EXPECT_EQ(in(kIir), 0x01);
  EXPECT_EQ(in(kLcr), 0);
  EXPECT_EQ(in(kMcr), 0);
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kMsr), 0xB0);
}

TEST_F(SerialTest, OutputReachesTheBackendAtOnce) {
  out(kData, 'h');
  out(kData, 'i');
  EXPECT_EQ(backend->output, "hi");
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(triggers(), 0);
}

TEST_F(SerialTest, DivisorLatchHidesDataAndInterruptEnable) {
  out(kLcr, 0x83);
  const std::array<uint8_t, 2> divisor{0x34, 0x12};  // one 16-bit access
  device->write(kData, divisor);
  EXPECT_EQ(in(kData), 0x34);
  EXPECT_EQ(in(kIer), 0x12);
  out(kLcr, 0x03);
  EXPECT_EQ(in(kIer), 0);
  EXPECT_EQ(backend->output, "");
}

// What Linux's 8250 driver does to find out what it has (autoconfig): the answers must say 16550A.
TEST_F(SerialTest, LinuxAutoconfigFindsA16550A) {
  out(kIer, 0);
  EXPECT_EQ(in(kIer)&0x0F, 0);
  out(kIer, 0x0F);
  EXPECT_EQ(in(kIer)&0x0F, 0x0F);
  out(kIer, 0);

  const uint8_t saved = in(kMcr);
  out(kMcr, 0x10 | 0x0A);
  EXPECT_EQ(in(kMsr)&0xF0, 0x90);
  out(kMcr, saved);

  out(kLcr, 0xBF);
  out(kFcr, 0);
  out(kLcr, 0);
  out(kFcr, 1);
  EXPECT_EQ(in(kIir) >> 6, 3);

  out(kLcr, 0x80);
  EXPECT_NE(in(2), 0);  // no EFR
  out(kLcr, 0xBF);
  EXPECT_NE(in(2), 0);
  out(kLcr, 0);
  out(kFcr, 0x21);
  const int status1 = in(kIir) >> 5;
  out(kFcr, 0x01);
  out(kLcr, 0x80);
  out(kFcr, 0x21);
  const int status2 = in(kIir) >> 5;
  out(kFcr, 0x01);
  out(kLcr, 0);
  EXPECT_FALSE(status1 == 6 && status2 == 7);  // that would be a TI16750

  out(kIer, 0x40);
  EXPECT_EQ(in(kIer)&0x40, 0);  // that would be an XScale
  out(kScr, 0xA5);
  EXPECT_EQ(in(kScr), 0xA5);
}

// serial8250_do_startup: without both answers the driver falls back to a timer, or to kicking the
// transmitter.
TEST_F(SerialTest, LinuxTransmitterInterruptTests) {
  out(kIer, 0x02);
  EXPECT_EQ(in(kIir)&0x0F, 0x02);
  out(kIer, 0);
  out(kIer, 0x02);
  EXPECT_EQ(in(kIir)&0x0F, 0x02);
  out(kIer, 0);

  out(kIer, 0x02);
  EXPECT_EQ(in(kLsr)&0x40, 0x40);
  EXPECT_EQ(in(kIir)&0x01, 0);
}

TEST_F(SerialTest, TransmitterInterruptIsClearedByIirAndRearmedByThr) {
  out(kIer, 0x02);
  EXPECT_EQ(triggers(), 1);
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_EQ(in(kIir), 0x01);
  out(kData, 'x');
  EXPECT_EQ(triggers(), 1);
  out(kData, 'y');  // a driver that sends from its handler without reading IIR
  EXPECT_EQ(triggers(), 1);
  EXPECT_EQ(in(kIir), 0x02);
  out(kIer, 0x02);  // not newly enabled
  EXPECT_EQ(triggers(), 0);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(SerialTest, ReadingIirForAnotherCauseKeepsTheTransmitterInterrupt) {
  out(kIer, 0x03);
  type("a");
  EXPECT_EQ(in(kIir), 0x04);
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(SerialTest, PrioritiesOfInterrupts) {
  out(kFcr, 0x01);
  out(kMcr, 0x10);
  out(kIer, 0x0F);
  for (int i = 0; i < 17; ++i) out(kData, 'x');
  out(kMcr, 0x12);
  EXPECT_EQ(in(kIir), 0xC6);  // overrun
  EXPECT_EQ(in(kLsr)&0x02, 0x02);
  EXPECT_EQ(in(kLsr)&0x02, 0);
  EXPECT_EQ(in(kIir), 0xC4);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(in(kData), 'x');
  EXPECT_EQ(in(kIir), 0xC2);
  EXPECT_EQ(in(kIir), 0xC0);  // modem status
  EXPECT_NE(in(kMsr)&0x0F, 0);
  EXPECT_EQ(in(kIir), 0xC1);
}

TEST_F(SerialTest, InputInterruptsAndFillsTheFifo) {
  out(kFcr, 0x01);
  out(kIer, 0x01);
  EXPECT_EQ(backend->client->input_room(), 16U);
  type("ab");
  EXPECT_EQ(triggers(), 1);
  EXPECT_EQ(backend->client->input_room(), 14U);
  EXPECT_EQ(in(kLsr)&0x01, 1);
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(triggers(), 0);
  EXPECT_EQ(in(kIir), 0xC4);
  EXPECT_EQ(in(kData), 'b');
  EXPECT_EQ(in(kIir), 0xC1);
  EXPECT_EQ(in(kLsr)&0x01, 0);
  EXPECT_EQ(in(kData), 0);
  type("c");
  EXPECT_EQ(triggers(), 1);
}

TEST_F(SerialTest, BytesBelowTheTriggerLevelAreATimeout) {
  out(kFcr, 0x81);  // trigger level 8
  out(kIer, 0x01);
  type("1234567");
  EXPECT_EQ(triggers(), 1);
  EXPECT_EQ(in(kIir), 0xCC);
  type("8");
  EXPECT_EQ(in(kIir), 0xC4);
}

TEST_F(SerialTest, InputIsAskedForOnceThereIsRoom) {
  EXPECT_EQ(backend->client->input_room(), 1U);  // without FIFOs
  type("a");
  EXPECT_EQ(backend->client->input_room(), 0U);
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(backend->input_requests, 1);
  type("b");
  EXPECT_EQ(in(kData), 'b');  // the backend was not turned away since
  EXPECT_EQ(backend->input_requests, 1);
  type("c");
  EXPECT_EQ(backend->client->input_room(), 0U);
  out(kFcr, 0x01);  // clears
  EXPECT_EQ(backend->input_requests, 2);
  EXPECT_EQ(in(kLsr)&0x01, 0);
}

TEST_F(SerialTest, LoopbackReturnsBytesAndKeepsHostInputOut) {
  out(kFcr, 0x01);
  out(kMcr, 0x10);
  EXPECT_EQ(backend->client->input_room(), 0U);
  out(kData, 0x42);
  EXPECT_EQ(backend->output, "");
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kData), 0x42);
  EXPECT_EQ(backend->input_requests, 0);
  out(kMcr, 0x00);
  EXPECT_EQ(backend->input_requests, 1);
  EXPECT_EQ(backend->client->input_room(), 16U);
}

TEST_F(SerialTest, LoopbackModemLines) {
  for (const auto& [control, lines] : {std::pair<uint8_t, uint8_t>{0x11, 0x20},
                                       {0x12, 0x10},
                                       {0x14, 0x40},
                                       {0x18, 0x80},
                                       {0x1F, 0xF0}}) {
    out(kMcr, control);
    EXPECT_EQ(in(kMsr)&0xF0, lines);
  }
  EXPECT_EQ(in(kMsr)&0x0F, 0);
  out(kMcr, 0x1B);  // RI falls
  EXPECT_EQ(in(kMsr), 0xB4);
  out(kMcr, 0x1F);  // RI rises: no delta
  EXPECT_EQ(in(kMsr), 0xF0);
}

TEST_F(SerialTest, SlowReaderHoldsTheTransmitter) {
  out(kFcr, 0x01);
  out(kIer, 0x02);
  EXPECT_EQ(in(kIir), 0xC2);
  triggers();
  backend->room = 3;
  for (const char c : std::string_view("0123456789ABCDEF")) out(kData, static_cast<uint8_t>(c));
  EXPECT_EQ(backend->output, "012");
  EXPECT_EQ(in(kLsr)&0x60, 0);
  EXPECT_EQ(in(kIir), 0xC1);
  triggers();

  backend->room = 5;
  backend->client->output_ready();
  EXPECT_EQ(backend->output, "01234567");
  EXPECT_EQ(in(kLsr)&0x60, 0);
  EXPECT_EQ(triggers(), 0);

  backend->room = SIZE_MAX;
  backend->client->output_ready();
  EXPECT_EQ(backend->output, "0123456789ABCDEF");
  EXPECT_EQ(in(kLsr)&0x60, 0x60);
  EXPECT_EQ(triggers(), 1);
  EXPECT_EQ(in(kIir), 0xC2);
}

TEST_F(SerialTest, ClearingTheTransmitFifoLosesNothing) {
  out(kFcr, 0x01);
  backend->room = 0;
  out(kData, 'a');
  out(kData, 'b');
  out(kFcr, 0x07);
  out(kFcr, 0x00);
  backend->room = SIZE_MAX;
  backend->client->output_ready();
  EXPECT_EQ(backend->output, "ab");
}

TEST_F(SerialTest, WritesWithoutRoomOverwriteTheLast) {
  backend->room = 0;
  for (const char c : std::string_view("abc")) out(kData, static_cast<uint8_t>(c));
  out(kFcr, 0x01);
  for (int i = 0; i < 100; ++i) out(kData, 'x');
  backend->room = SIZE_MAX;
  backend->client->output_ready();
  EXPECT_EQ(backend->output, "c" + std::string(15, 'x'));
}

TEST(DeviceSerial, TriesHeldOutputALastTimeWhenItGoes) {
  // Outlives the device's own backend, which only passes on.
  struct Forwarding final : CharBackend {
    explicit Forwarding(BoundedBackend& new_target) : target(new_target) {}
    void attach(CharClient* client) override { target.attach(client); }
    size_t write(std::span<const uint8_t> bytes) noexcept override { return target.write(bytes); }
    void input_wanted() noexcept override {}
    BoundedBackend& target;
  };
  BoundedBackend backend;
  backend.room = 0;
  RecordingLine line;
  {
    Serial device(line, std::make_unique<Forwarding>(backend));
    write8(device, 0, 'x');
    backend.room = 1;
  }
  EXPECT_EQ(backend.output, "x");
  EXPECT_EQ(backend.client, nullptr);
}

TEST_F(SerialTest, EveryAccess) {
  access_everything(*device, Serial::kSize);
  backend->room = 0;
  access_everything(*device, Serial::kSize);
  EXPECT_LE(backend->client->input_room(), 16U);
}

TEST_F(SerialTest, RandomAccessesKeepTheStateInBounds) {
  uint32_t random = 1;
  for (int i = 0; i < 200000; ++i) {
    random = random * 1664525 + 1013904223;
    const uint8_t value = random >> 24;
    const uint64_t offset = random >> 8 & 7;
    backend->room = random >> 12 & 3;
    if ((random >> 16 & 3) == 0) {
      in(offset);
    } else if ((random >> 16 & 3) == 1) {
      backend->client->output_ready();
      const std::string text(backend->client->input_room(), 'i');
      type(text);
    } else {
      out(offset, value);
    }
    backend->output.clear();
  }
  EXPECT_LE(backend->client->input_room(), 16U);
}

}  // namespace
}  // namespace tsvmm
