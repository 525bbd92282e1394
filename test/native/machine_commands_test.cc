#include "machine/machine_commands.h"

#include "machine/answer.h"
#include "machine/counters_text.h"
#include "machine/memory_text.h"
#include "machine_fixture.h"

namespace tsvmm::machine_test {
namespace {

using message_test::read_map;
using Turn = MachineCommand::Turn;

/// Commands and questions as they come from the layer above.
class MachineCommandsTest : public MachineTest {
 protected:
  void SetUp() override {
    build();
    BootSpec boot = boot_spec();
    boot.pci.functions.push_back(
        {.id = "_balloon", .place = {0, 1}, .bar0 = bar_of(1), .device = empty_balloon()});
    machine->boot(std::move(boot));
  }

  /// The answer to a command; `fields` writes so many besides its name.
  std::vector<uint8_t> command(const char* name, uint64_t count = 0,
                               const std::function<void(CborWriter&)>& fields = {}) {
    CborWriter writer;
    writer.map(count + 1).field("command", name);
    if (fields) fields(writer);
    return answer([&](CborWriter& answered) {
      MachineCommand made({.bytes = writer.take(), .descriptors = {}});
      turn = made.turn();
      made.run(*machine, answered);
    });
  }
  std::vector<uint8_t> question(const char* name) {
    CborWriter writer;
    const std::vector<uint8_t> bytes = writer.text(name).take();
    MessageReader reader(bytes, {});
    return answer(
        [&](CborWriter& answered) { answer_question(*machine, reader.value(), answered); });
  }
  /// Of an answer that is an error; "" of another.
  static std::string error_of(const std::vector<uint8_t>& bytes) {
    return read_map({.bytes = bytes, .descriptors = {}}, [](Fields& fields) -> std::string {
      if (!fields.has("error")) return (void)fields["value"], "";
      return fields["error"].map([](Fields& error) {
        (void)error["message"];
        return error["code"].text();
      });
    });
  }
  static std::vector<uint8_t> value(CborWriter& written) {
    CborWriter whole;
    const std::vector<uint8_t> inside = written.take();
    return whole.map(1).key("value").item(inside).take();
  }
  static std::vector<uint8_t> nothing() {
    CborWriter null;
    return value(null.null());
  }

  Turn turn = Turn::kAtOnce;
};

TEST_F(MachineCommandsTest, ArePausedAndResumedInTurn) {
  EXPECT_EQ(command("pause"), nothing());
  EXPECT_EQ(turn, Turn::kOwn);
  EXPECT_EQ(error_of(command("pause")), "EINVAL") << "it is paused already";
  EXPECT_EQ(command("resume"), nothing());
  EXPECT_EQ(command("power-button"), nothing());
  EXPECT_EQ(turn, Turn::kAtOnce);
  EXPECT_EQ(command("destroy", 1, [](CborWriter& writer) { writer.field("timeoutMs", 1000); }),
            nothing());
  EXPECT_EQ(turn, Turn::kLast);
  EXPECT_EQ(error_of(command("pause")), "ERR_TSVMM_NO_MACHINE");
}

TEST_F(MachineCommandsTest, ThatAreNotRightDoNothing) {
  EXPECT_EQ(error_of(command("dance")), "ERR_TSVMM_MESSAGE");
  EXPECT_EQ(error_of(command("pause", 1, [](CborWriter& writer) { writer.field("why", 1); })),
            "ERR_TSVMM_MESSAGE");
  EXPECT_EQ(error_of(command("resume")), "EINVAL") << "it was not paused";
  const auto short_id = [](CborWriter& writer) {
    writer.key("id").bytes(std::array<uint8_t, 15>{});
  };
  EXPECT_EQ(error_of(command("set-generation", 1, short_id)), "ERR_TSVMM_MESSAGE");
}

TEST_F(MachineCommandsTest, OperateDevices) {
  const auto resize = [](const char* device, uint64_t size) {
    return [=](CborWriter& writer) {
      writer.field("device", device).field("operation", "resize");
      writer.key("arguments").map(1).field("size", size);
    };
  };
  EXPECT_EQ(command("operate", 3, resize("_balloon", 4096)), nothing());
  EXPECT_EQ(turn, Turn::kOwn);
  EXPECT_EQ(error_of(command("operate", 3, resize("_other", 4096))), "ERR_TSVMM_NO_DEVICE");
  EXPECT_EQ(error_of(command("operate", 3,
                             [](CborWriter& writer) {
                               writer.field("device", "_balloon").field("operation", "dance");
                               writer.key("arguments").map(0);
                             })),
            "ENOTSUP");
}

TEST_F(MachineCommandsTest, ReadMemoryForADebugger) {
  ASSERT_TRUE(memory->write(0x1000, uint32_t{0x04030201}));
  const auto read = [&](uint64_t address) {
    return command("debug-read", 2, [=](CborWriter& writer) {
      writer.field("address", address).field("length", 4);
    });
  };
  CborWriter bytes;
  EXPECT_EQ(read(0x1000), value(bytes.bytes(std::array<uint8_t, 4>{1, 2, 3, 4})));
  EXPECT_EQ(read(UINT64_MAX - 2), nothing());
  EXPECT_EQ(error_of(command(
                "debug-registers", 2,
                [](CborWriter& writer) { writer.field("vcpu", 0).field("set", "general"); })),
            "EBUSY")
      << "it is not stopped";
}

TEST_F(MachineCommandsTest, QuestionsAreAnswered) {
  CborWriter status;
  status.map(1).key("_balloon").map(1).field("ballooned", 0);
  EXPECT_EQ(question("status"), value(status));
  CborWriter codes;
  codes.map(2).field("lastPostCode", 0).field("postCodes", 0);
  EXPECT_EQ(question("post-codes"), value(codes));
  CborWriter vcpus;
  vcpus.array(1)
      .map(4)
      .field("index", 0)
      .field("thread", 0)
      .key("exits")
      .map(0)
      .key("hypervisor")
      .map(0);
  EXPECT_EQ(question("vcpus"), value(vcpus));
  EXPECT_EQ(error_of(question("counters")), "");
  EXPECT_EQ(error_of(question("why")), "ERR_TSVMM_MESSAGE");
  machine->destroy();
  EXPECT_EQ(error_of(question("counters")), "ERR_TSVMM_NO_MACHINE");
}

TEST_F(MachineCommandsTest, ATextHasTheMemoryOfTheMoment) {
  CborWriter text;
  text.map(6).field("head", "L").field("afterLength", ":").field("before", "<").field("after", ">");
  text.field("memory", 100).field("left", 70);
  const std::vector<uint8_t> bytes = text.take();
  MessageReader reader(bytes, {});
  MemoryText memory(std::shared_ptr<Machine>(machine.get(), [](Machine*) {}), reader.value());
  const auto said = [&] {
    std::vector<uint8_t> appended;
    EXPECT_TRUE(memory.append_to(appended));
    return std::string(appended.begin(), appended.end());
  };
  EXPECT_EQ(said(), "L5:<100>");
  machine->destroy();
  EXPECT_EQ(said(), "L5:<100>") << "what it was before";
}

TEST_F(MachineCommandsTest, ATextHasJustTheCountersThatThereAre) {
  const auto make = [&](const std::vector<std::string>& counters) {
    CborWriter text;
    text.map(4).field("head", "L").field("afterLength", ":").field("tail", ".");
    text.key("pieces").array(counters.size());
    for (const std::string& counter : counters) {
      text.map(3).field("text", " ").field("device", "_balloon").field("counter", counter);
    }
    const std::vector<uint8_t> bytes = text.take();
    MessageReader reader(bytes, {});
    return CountersText(std::shared_ptr<Machine>(machine.get(), [](Machine*) {}), reader.value());
  };
  std::vector<std::string> names;
  std::string expected;
  for (const auto& [id, counters] : machine->counters()) {
    for (const Counter& counter : counters) {
      names.emplace_back(counter.name);
      expected += " " + std::to_string(counter.value);
    }
  }
  ASSERT_FALSE(names.empty());
  const CountersText text = make(names);
  std::vector<uint8_t> appended;
  EXPECT_TRUE(text.append_to(appended));
  expected += ".";
  EXPECT_EQ(std::string(appended.begin(), appended.end()),
            "L" + std::to_string(expected.size()) + ":" + expected);
  EXPECT_EQ(code_of([&] { (void)make({"none"}); }), "EINVAL");
  EXPECT_EQ(code_of([&] { (void)make({}); }), "EINVAL");
  machine->destroy();
  EXPECT_FALSE(text.append_to(appended));
}

TEST(MachineEventEncoding, IsAMapWithItsType) {
  MachineEvent event{};
  event.type = MachineEvent::Type::kVcpuError;
  event.vcpu = 2;
  event.reason = "fail-entry";
  event.code = UINT64_MAX;
  event.detail = "RIP";
  read_map({.bytes = encode(event), .descriptors = {}}, [](Fields& fields) {
    EXPECT_EQ(fields["type"].text(), "vcpu-error");
    EXPECT_EQ(fields["vcpu"].number(), 2U);
    EXPECT_EQ(fields["reason"].text(), "fail-entry");
    EXPECT_EQ(fields["code"].number(UINT64_MAX), UINT64_MAX);
    EXPECT_EQ(fields["detail"].text(), "RIP");
  });
}

/// Each has as many fields as it says.
TEST(MachineEventEncoding, IsWellFormedForEachType) {
  for (int type = 0; type <= static_cast<int>(MachineEvent::Type::kDebugStop); ++type) {
    MachineEvent event{};
    event.type = static_cast<MachineEvent::Type>(type);
    EXPECT_NO_THROW((void)read_cbor(encode(event))) << type;
  }
}

}  // namespace
}  // namespace tsvmm::machine_test
