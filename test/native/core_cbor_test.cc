#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/cbor_reader.h"
#include "core/cbor_writer.h"
#include "core/error.h"
#include "core/utf8.h"
#include "message_test_support.h"

namespace tsvmm {
namespace {

using message_test::from_hex;
using Type = CborItem::Type;

/// Writes an item as it was read, and returns the index of what follows it.
size_t write_again(CborWriter& writer, const std::vector<CborItem>& items, size_t at) {
  const CborItem& item = items[at];
  switch (item.type) {
    case Type::kUnsigned:
      writer.number(item.number);
      break;
    case Type::kBytes:
      writer.bytes(item.bytes);
      break;
    case Type::kText:
      writer.text(item.text());
      break;
    case Type::kBoolean:
      writer.boolean(item.number != 0);
      break;
    case Type::kNull:
      writer.null();
      break;
    case Type::kArray:
      writer.array(item.number);
      break;
    case Type::kMap:
      writer.map(item.number);
      break;
    case Type::kNegative:
    case Type::kDescriptor:
      ADD_FAILURE() << "answers have none of these";
  }
  size_t inside = at + 1;
  while (inside < item.next) inside = write_again(writer, items, inside);
  return inside;
}

/// The same bytes are what the TypeScript side encodes and decodes
/// (test/unit/boundary/cbor.test.ts).
TEST(Cbor, ReadsAndWritesWhatTheOtherSideDoes) {
  std::ifstream file(TSVMM_CBOR_VECTORS);
  std::string line;
  size_t count = 0;
  while (std::getline(file, line)) {
    const std::vector<uint8_t> bytes = from_hex(line);
    const std::vector<CborItem> items = read_cbor(bytes);
    ++count;
    if (items[0].type == Type::kNegative || items[0].type == Type::kDescriptor) continue;
    CborWriter writer;
    EXPECT_EQ(write_again(writer, items, 0), items.size());
    EXPECT_EQ(writer.take(), bytes) << line;
  }
  EXPECT_GE(count, 30U);
}

TEST(Cbor, TellsValuesApart) {
  EXPECT_EQ(read_cbor(from_hex("1bffffffffffffffff"))[0].number, UINT64_MAX);
  EXPECT_EQ(read_cbor(from_hex("3863"))[0].type, Type::kNegative);
  EXPECT_EQ(read_cbor(from_hex("3863"))[0].number, 99U);
  EXPECT_EQ(read_cbor(from_hex("d9fd0005"))[0].type, Type::kDescriptor);
  EXPECT_EQ(read_cbor(from_hex("d9fd0005"))[0].number, 5U);
  EXPECT_EQ(read_cbor(from_hex("64f0908591"))[0].text(), "\xf0\x90\x85\x91");
  EXPECT_EQ(read_cbor(from_hex("f5"))[0].number, 1U);
}

std::string refusal(const std::vector<uint8_t>& bytes) {
  try {
    (void)read_cbor(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "ERR_TSVMM_MESSAGE");
    return error.what();
  }
  return "none";
}

struct Malformed {
  const char* name;
  const char* bytes;
  const char* why;
};

class CborRefuses : public testing::TestWithParam<Malformed> {};

TEST_P(CborRefuses, It) {
  const std::string why = refusal(from_hex(GetParam().bytes));
  EXPECT_TRUE(why.ends_with(GetParam().why)) << why;
}

constexpr auto kTooEarly = "it ends too early";
constexpr auto kTooLong = "a number is longer than it has to be";
constexpr auto kNotDefinite = "a length is not definite, or reserved";
constexpr auto kNotSimple =
    "there are no other simple values than false, true and null, and no floats";
constexpr auto kNotUtf8 = "a text is not UTF-8";

INSTANTIATE_TEST_SUITE_P(
    Malformed, CborRefuses,
    testing::Values(
        Malformed{"Nothing", "", kTooEarly}, Malformed{"HalfANumber", "19ff", kTooEarly},
        Malformed{"NoNumber", "1b", kTooEarly}, Malformed{"HalfBytes", "4201", kTooEarly},
        Malformed{"HalfAText", "6461", kTooEarly},
        Malformed{"BytesLongerThanMemory", "5bffffffffffffffff", kTooEarly},
        Malformed{"TextLongerThanMemory", "7bffffffffffffffff", kTooEarly},
        Malformed{"ArrayLongerThanMemory", "9bffffffffffffffff", kTooEarly},
        Malformed{"MapLongerThanMemory", "bbffffffffffffffff", kTooEarly},
        Malformed{"MapOfHalfOfMemory", "bb8000000000000000", kTooEarly},
        Malformed{"ArrayWithoutEnd", "8201", kTooEarly},
        Malformed{"MapWithoutValue", "a16161", kTooEarly},
        Malformed{"DescriptorWithoutIndex", "d9fd00", kTooEarly},
        Malformed{"TwoValues", "0000", "bytes follow it"}, Malformed{"Long23", "1817", kTooLong},
        Malformed{"Long255", "1900ff", kTooLong}, Malformed{"Long65535", "1a0000ffff", kTooLong},
        Malformed{"Long32Bits", "1b00000000ffffffff", kTooLong},
        Malformed{"LongLength", "580100", kTooLong}, Malformed{"LongTag", "da0000fd0000", kTooLong},
        Malformed{"LongIndex", "d9fd001800", kTooLong},
        Malformed{"IndefiniteBytes", "5f4101ff", kNotDefinite},
        Malformed{"IndefiniteText", "7f6161ff", kNotDefinite},
        Malformed{"IndefiniteArray", "9fff", kNotDefinite},
        Malformed{"IndefiniteMap", "bfff", kNotDefinite}, Malformed{"Break", "ff", kNotDefinite},
        Malformed{"Reserved28", "1c", kNotDefinite}, Malformed{"Reserved30", "3e", kNotDefinite},
        Malformed{"Undefined", "f7", kNotSimple}, Malformed{"Simple", "f8ff", kNotSimple},
        Malformed{"LongNull", "f816", kTooLong}, Malformed{"HalfFloat", "f93c00", kNotSimple},
        Malformed{"Float", "fa47c35000", kNotSimple},
        Malformed{"Double", "fb3ff199999999999a", kNotSimple},
        Malformed{"Date", "c001", "the tag 0 has no meaning"},
        Malformed{"OtherTag", "d9fd0100", "the tag 64769 has no meaning"},
        Malformed{"IndexOfText", "d9fd006161", "the index of a descriptor is no number"},
        Malformed{"IndexBelowZero", "d9fd0020", "the index of a descriptor is no number"},
        Malformed{"NumberAsKey", "a10102", "a key is not text"},
        Malformed{"BytesAsKey", "a1416102", "a key is not text"},
        Malformed{"KeyTwice", "a3616101616202616103", "the key \"a\" is there twice"},
        Malformed{"Latin1", "61fc", kNotUtf8}, Malformed{"Continuation", "6180", kNotUtf8},
        Malformed{"CutOff", "62e282", kNotUtf8}, Malformed{"Surrogate", "63eda080", kNotUtf8},
        Malformed{"OverlongSlash", "62c0af", kNotUtf8},
        Malformed{"Overlong3", "63e080af", kNotUtf8}, Malformed{"TooHigh", "64f4908080", kNotUtf8},
        Malformed{"KeyNotUtf8", "a161ff01", kNotUtf8}),
    [](const auto& info) { return info.param.name; });

/// Of a folder whose name is Latin-1, a path that was cut off, and what only looks like a
/// character.
TEST(Cbor, WritesWhatIsNotUtf8AsWhatCanBeRead) {
  for (const auto& [text, read] :
       {std::pair("reading /home/m\xfcller/vmlinux: no", "reading /home/m\ufffdller/vmlinux: no"),
        std::pair("/\xe2\x82", "/\ufffd\ufffd"), std::pair("\xed\xa0\x80.", "\ufffd\ufffd\ufffd."),
        std::pair("\xe2\x28\xa1\u20ac", "\ufffd(\ufffd\u20ac")}) {
    CborWriter writer;
    writer.map(1).field("message", text);
    const std::vector<uint8_t> message = writer.take();
    EXPECT_EQ(read_cbor(message).back().text(), read);
  }
}

TEST(Cbor, IsNestedToALimit) {
  std::vector<uint8_t> deep(kMaxCborDepth, 0x81);
  deep.push_back(0x00);
  EXPECT_EQ(read_cbor(deep).size(), kMaxCborDepth + 1);
  deep.insert(deep.begin(), 0x81);
  EXPECT_TRUE(refusal(deep).ends_with("it is nested too deep"));
  deep.assign(1 << 20, 0x81);
  EXPECT_TRUE(refusal(deep).ends_with("it is nested too deep"));
}

TEST(Cbor, HasALimitOfItems) {
  CborWriter writer;
  writer.array(kMaxCborItems - 1);
  for (size_t i = 1; i < kMaxCborItems; ++i) writer.number(0);
  std::vector<uint8_t> bytes = writer.take();
  EXPECT_EQ(read_cbor(bytes).size(), kMaxCborItems);
  writer.array(kMaxCborItems);
  for (size_t i = 0; i < kMaxCborItems; ++i) writer.number(0);
  EXPECT_TRUE(refusal(writer.take()).ends_with("it has too many items"));
}

TEST(Utf8, KnowsEachLength) {
  for (const char* text : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_utf8(text));
  }
  for (const char* text : {"\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
                           "\xf5\x80\x80\x80", "\xe2\x82", "\xe2\x28\xa1", "\xf0\x90\x80\x28"}) {
    EXPECT_FALSE(is_utf8(text));
  }
}

}  // namespace
}  // namespace tsvmm
