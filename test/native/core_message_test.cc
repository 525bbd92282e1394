#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "core/cbor_writer.h"
#include "core/message.h"

namespace tsvmm {
namespace {

using namespace std::string_view_literals;

/// {"number": 300, "text": "words", "bytes": h'010203', "flag": true, "list": [1, {"deep": 2}],
/// "inner": {"port": 7}}
std::vector<uint8_t> sample() {
  CborWriter writer;
  writer.map(6).field("number", 300).field("text", "words");
  writer.key("bytes").bytes(std::array<uint8_t, 3>{1, 2, 3});
  writer.key("flag").boolean(true);
  writer.key("list").array(2).number(1).map(1).field("deep", 2);
  writer.key("inner").map(1).field("port", 7);
  return writer.take();
}

/// What `use` of the sample's fields is refused with.
std::string refusal(const std::function<void(Fields&)>& use) {
  const auto bytes = sample();
  MessageReader reader(bytes, {});
  try {
    reader.value().map(use);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "ERR_TSVMM_MESSAGE");
    return error.what();
  }
  return "none";
}

void use_all(Fields& fields) {
  for (const auto* name : {"number", "text", "bytes", "flag", "list", "inner"}) (void)fields[name];
}

TEST(Message, GivesValuesByName) {
  const auto bytes = sample();
  MessageReader reader(bytes, {});
  const uint64_t number = reader.value().map([](Fields& fields) {
    EXPECT_EQ(fields["text"].text(), "words");
    EXPECT_EQ(fields["bytes"].bytes(), (std::vector<uint8_t>{1, 2, 3}));
    EXPECT_EQ(fields["bytes"].exactly<3>(), (std::array<uint8_t, 3>{1, 2, 3}));
    EXPECT_TRUE(fields["flag"].boolean());
    EXPECT_EQ(fields["text"].choice(std::array{"some"sv, "words"sv}), 1U);
    EXPECT_TRUE(fields.has("list"));
    EXPECT_FALSE(fields.has("lists"));
    size_t elements = 0;
    fields["list"].each([&](const Value&) { ++elements; });
    EXPECT_EQ(elements, 2U);
    fields["inner"].map([](Fields& inner) { EXPECT_EQ(inner["port"].narrow<uint16_t>(), 7U); });
    return fields["number"].narrow<uint16_t>();
  });
  EXPECT_EQ(number, 300U);
}

TEST(Message, NamesWhatIsWrong) {
  EXPECT_EQ(refusal([](Fields& f) { (void)f["number"].narrow<uint8_t>(); }),
            "number must be a whole number from 0 to 255");
  EXPECT_EQ(refusal([](Fields& f) { (void)f["number"].number(1000, 301); }),
            "number must be a whole number from 301 to 1000");
  EXPECT_EQ(refusal([](Fields& f) { (void)f["none"].number(); }),
            "none must be a whole number from 0 to 9007199254740991");
  EXPECT_EQ(refusal([](Fields& f) { (void)f["text"].boolean(); }), "text must be a boolean");
  EXPECT_EQ(refusal([](Fields& f) { (void)f["flag"].text(); }), "flag must be a text");
  EXPECT_EQ(refusal([](Fields& f) {
              (void)f["text"].choice(std::array{"a"sv, "b"sv});
            }),
            "text must be one of a, b");
  EXPECT_EQ(refusal([](Fields& f) { (void)f["bytes"].exactly<6>(); }), "bytes must be 6 bytes");
  EXPECT_EQ(refusal([](Fields& f) { f["inner"].each([](const Value&) {}); }),
            "inner must be an array");
  EXPECT_EQ(refusal([](Fields& f) { f["list"].map([](Fields&) {}); }), "list must be an object");
  EXPECT_EQ(refusal([](Fields& f) { (void)f["number"].descriptor(); }),
            "number must be a descriptor that is named nowhere else");
}

TEST(Message, SaysWhereThatIs) {
  EXPECT_EQ(
      refusal([](Fields& f) { f["inner"].map([](Fields& inner) { (void)inner["port"].text(); }); }),
      "inner.port must be a text");
  EXPECT_EQ(refusal([](Fields& f) {
              f["list"].each([](const Value& element) {
                if (element.number(1) == 1) return;
              });
            }),
            "list[1] must be a whole number from 0 to 1");
}

TEST(Message, RefusesWhatNobodyAsksFor) {
  EXPECT_EQ(refusal([](Fields& fields) {
              use_all(fields);
              fields["inner"].map([](Fields&) {});
            }),
            "inner.port is not known");
  EXPECT_EQ(refusal([](Fields& fields) { (void)fields["number"]; }), "text is not known");
  EXPECT_EQ(refusal(use_all), "none");
}

TEST(Message, GivesEachDescriptorOnce) {
  Message message;
  CborWriter writer;
  // The indexes 0, 0 and 1, of a table of one: {"a": fd 0, "b": fd 0, "c": fd 1}
  writer.map(3);
  for (const auto& [name, index] :
       {std::pair{"a", uint8_t{0}}, {"b", uint8_t{0}}, {"c", uint8_t{1}}}) {
    writer.key(name).item(std::array<uint8_t, 4>{0xd9, 0xfd, 0x00, index});
  }
  message.bytes = writer.take();
  message.descriptors.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int fd = message.descriptors[0].get();
  MessageReader reader(message);
  reader.value().map([&](Fields& fields) {
    const UniqueFd taken = fields["a"].descriptor();
    EXPECT_EQ(taken.get(), fd);
    EXPECT_THROW((void)fields["b"].descriptor(), ValueError);
    EXPECT_THROW((void)fields["c"].descriptor(), ValueError);
  });
}

TEST(Message, SaysWhatItWants) {
  const std::vector<uint8_t> bytes{0xa0};
  MessageReader reader(bytes, {});
  reader.value().map([](Fields& fields) {
    try {
      (void)fields["size"].number(9, 3);
      FAIL();
    } catch (const ValueError& error) {
      EXPECT_EQ(error.path(), "size");
      EXPECT_EQ(error.wanted().type, CborItem::Type::kUnsigned);
      EXPECT_EQ(error.wanted().min, 3U);
      EXPECT_EQ(error.wanted().max, 9U);
    }
  });
}

}  // namespace
}  // namespace tsvmm
