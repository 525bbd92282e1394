#include "core/cbor_reader.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/utf8.h"

namespace tsvmm {
namespace {

/// The high three bits of an item's first byte (RFC 8949 §3.1).
enum class Major : uint8_t {
  kUnsigned = 0,
  kNegative = 1,
  kBytes = 2,
  kText = 3,
  kArray = 4,
  kMap = 5,
  kTag = 6,
  kSimple = 7,
};

/// Arguments below this are in the first byte itself; from here on 1, 2, 4 or 8 bytes follow.
constexpr uint8_t kFirstLong = 24;
constexpr uint8_t kLastLong = 27;
/// Simple values (RFC 8949 §3.3).
constexpr uint64_t kFalse = 20;
constexpr uint64_t kTrue = 21;
constexpr uint64_t kNull = 22;

struct Head {
  Major major;
  uint64_t argument;
};

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  std::vector<CborItem> read() {
    item(0);
    if (offset_ != bytes_.size()) fail("bytes follow it");
    return std::move(items_);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error("ERR_TSVMM_MESSAGE",
                "The message cannot be read at byte " + std::to_string(offset_) + ": " + why);
  }

  std::span<const uint8_t> take(uint64_t size) {
    if (size > bytes_.size() - offset_) fail("it ends too early");
    const auto taken = bytes_.subspan(offset_, size);
    offset_ += size;
    return taken;
  }

  Head head() {
    const uint8_t first = take(1)[0];
    const auto major = static_cast<Major>(first >> 5);
    const uint8_t low = first & 0x1fU;
    if (low < kFirstLong) return {major, low};
    if (low > kLastLong) fail("a length is not definite, or reserved");
    const unsigned size = 1U << (low - kFirstLong);
    uint64_t argument = 0;
    for (const uint8_t byte : take(size)) argument = argument << 8 | byte;
    const uint64_t shortest = size == 1 ? uint64_t{kFirstLong} : uint64_t{1} << (size * 4);
    if (argument < shortest) fail("a number is longer than it has to be");
    return {major, argument};
  }

  /// The numbers of items in `count` elements of at least one byte each.
  void check_room(uint64_t count, uint64_t items_each) const {
    if (count > (bytes_.size() - offset_) / items_each) fail("it ends too early");
    if (count * items_each > kMaxCborItems - items_.size()) fail("it has too many items");
  }

  void item(unsigned depth) {
    if (items_.size() == kMaxCborItems) fail("it has too many items");
    const Head found = head();
    const size_t index = items_.size();
    CborItem& added = items_.emplace_back();
    added.number = found.argument;
    switch (found.major) {
      case Major::kUnsigned:
        added.type = CborItem::Type::kUnsigned;
        break;
      case Major::kNegative:
        added.type = CborItem::Type::kNegative;
        break;
      case Major::kBytes:
        added.type = CborItem::Type::kBytes;
        added.bytes = take(found.argument);
        break;
      case Major::kText:
        added.type = CborItem::Type::kText;
        added.bytes = take(found.argument);
        if (!is_utf8(added.text())) fail("a text is not UTF-8");
        break;
      case Major::kArray:
        added.type = CborItem::Type::kArray;
        array(found.argument, depth);
        break;
      case Major::kMap:
        added.type = CborItem::Type::kMap;
        map(found.argument, depth);
        break;
      case Major::kTag:
        added.type = CborItem::Type::kDescriptor;
        added.number = descriptor(found.argument);
        break;
      case Major::kSimple:
        simple(added, found.argument);
        break;
    }
    items_[index].next = items_.size();
  }

  void array(uint64_t count, unsigned depth) {
    if (depth == kMaxCborDepth) fail("it is nested too deep");
    check_room(count, 1);
    for (uint64_t i = 0; i < count; ++i) item(depth + 1);
  }

  void map(uint64_t count, unsigned depth) {
    if (depth == kMaxCborDepth) fail("it is nested too deep");
    check_room(count, 2);
    std::vector<std::string_view> keys;
    keys.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      const size_t key = items_.size();
      item(depth + 1);
      if (items_[key].type != CborItem::Type::kText) fail("a key is not text");
      keys.push_back(items_[key].text());
      item(depth + 1);
    }
    std::ranges::sort(keys);
    const auto twice = std::ranges::adjacent_find(keys);
    if (twice != keys.end()) fail("the key \"" + std::string(*twice) + "\" is there twice");
  }

  uint64_t descriptor(uint64_t tag) {
    if (tag != kDescriptorTag) fail("the tag " + std::to_string(tag) + " has no meaning");
    const Head index = head();
    if (index.major != Major::kUnsigned) fail("the index of a descriptor is no number");
    return index.argument;
  }

  void simple(CborItem& added, uint64_t value) {
    if (value == kNull) {
      added.type = CborItem::Type::kNull;
    } else if (value == kFalse || value == kTrue) {
      added.type = CborItem::Type::kBoolean;
      added.number = value == kTrue ? 1 : 0;
    } else {
      fail("there are no other simple values than false, true and null, and no floats");
    }
  }

  std::span<const uint8_t> bytes_;
  size_t offset_ = 0;
  std::vector<CborItem> items_;
};

}  // namespace

std::vector<CborItem> read_cbor(std::span<const uint8_t> bytes) { return Reader(bytes).read(); }

}  // namespace tsvmm
