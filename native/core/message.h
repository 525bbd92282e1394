#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/cbor_reader.h"
#include "core/error.h"
#include "core/unique_fd.h"

namespace tsvmm {

/// What crosses the boundary: bytes (core/cbor_reader.h) and the descriptors that they name by
/// index.
struct Message {
  std::vector<uint8_t> bytes;
  std::vector<UniqueFd> descriptors;
};

/// What a value has to be.
struct Wanted {
  CborItem::Type type = CborItem::Type::kNull;
  /// kUnsigned: of the number; kBytes: of their length.
  uint64_t min = 0;
  uint64_t max = 0;
  std::vector<std::string> choices = {};  ///< kText: the only words that it can be
};

/// A value of a message is missing, or not what it has to be.
class ValueError : public Error {
 public:
  ValueError(std::string path, Wanted wanted);

  /// For example `pci.functions[2].queueSize`.
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const Wanted& wanted() const { return wanted_; }

 private:
  std::string path_;
  Wanted wanted_;
};

/// Where a value is in its message. Those that it is in outlive it.
struct ValuePlace {
  const ValuePlace* parent = nullptr;
  std::string_view name;             ///< empty: an element of an array, or the whole
  std::optional<size_t> index = {};  ///< of such an element
};

class Fields;
class MessageReader;

/// A value of a message, or its absence. Each of these throws ValueError if it is something else
/// than what is asked for. No longer than the reader, and what it was taken from.
class Value {
 public:
  Value(const Value&) = delete;
  Value& operator=(const Value&) = delete;

  /// Numbers of JavaScript are exact up to here.
  static constexpr uint64_t kMaxExact = (uint64_t{1} << 53) - 1;

  [[nodiscard]] uint64_t number(uint64_t max = kMaxExact, uint64_t min = 0) const;
  template <std::unsigned_integral T>
  [[nodiscard]] T narrow() const {
    return static_cast<T>(number(std::numeric_limits<T>::max()));
  }
  /// A number that names a CPU of the host, or the like.
  [[nodiscard]] int ordinal() const {
    return static_cast<int>(number(std::numeric_limits<int>::max()));
  }
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::vector<uint8_t> bytes() const;
  /// Just so many bytes.
  template <size_t size>
  [[nodiscard]] std::array<uint8_t, size> exactly() const {
    std::array<uint8_t, size> copy{};
    const auto found = bytes_of(size, size);
    std::copy(found.begin(), found.end(), copy.begin());
    return copy;
  }
  /// Takes it out of the message: each can be named once.
  [[nodiscard]] UniqueFd descriptor() const;
  /// The index of a word among those that it can be.
  [[nodiscard]] size_t choice(std::span<const std::string_view> words) const;

  /// `use` is called with each element of an array.
  template <typename Use>
  void each(const Use& use) const {
    const CborItem& list = checked(CborItem::Type::kArray);
    size_t at = first_inside();
    for (uint64_t i = 0; i < list.number; ++i) {
      const Value element(*reader_, at, {.parent = &place_, .name = {}, .index = i});
      use(element);
      at = element.item_->next;
    }
  }

  /// What `use` makes of a map, which has to have asked for all that is in it.
  template <typename Use>
  auto map(const Use& use) const;

 private:
  friend class Fields;
  friend class MessageReader;
  static constexpr size_t kMissing = std::numeric_limits<size_t>::max();

  Value(MessageReader& reader, size_t at, ValuePlace place);
  [[nodiscard]] size_t first_inside() const;
  [[nodiscard]] const CborItem& checked(CborItem::Type type) const;
  [[nodiscard]] std::span<const uint8_t> bytes_of(uint64_t min, uint64_t max) const;
  [[noreturn]] void fail(Wanted wanted) const;

  MessageReader* reader_;
  const CborItem* item_;  ///< nullptr: it is missing
  ValuePlace place_;
};

/// The fields of a map, by name. A field that is not read is an error.
class Fields {
 public:
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  /// A field that may be missing until its value is asked for.
  [[nodiscard]] Value operator[](std::string_view name);
  [[nodiscard]] bool has(std::string_view name);
  /// Throws Error if there is a field that was not read. Value::map does it at its end.
  void check_used() const;

 private:
  friend class Value;
  struct Field {
    std::string_view name;
    size_t at;
    bool used = false;
  };

  Fields(MessageReader& reader, const CborItem& map, const ValuePlace& place);
  [[nodiscard]] Field* find(std::string_view name);

  MessageReader* reader_;
  const ValuePlace* place_;
  std::vector<Field> fields_;
};

/// Reads one message.
class MessageReader {
 public:
  /// Throws Error ERR_TSVMM_MESSAGE if the bytes are malformed. Both outlive the reader.
  MessageReader(std::span<const uint8_t> bytes, std::span<UniqueFd> descriptors)
      : items_(read_cbor(bytes)), descriptors_(descriptors) {}
  explicit MessageReader(Message& message) : MessageReader(message.bytes, message.descriptors) {}
  MessageReader(const MessageReader&) = delete;
  MessageReader& operator=(const MessageReader&) = delete;

  /// The whole.
  [[nodiscard]] Value value() { return {*this, 0, {}}; }

 private:
  friend class Value;
  friend class Fields;

  std::vector<CborItem> items_;
  std::span<UniqueFd> descriptors_;
};

template <typename Use>
auto Value::map(const Use& use) const {
  Fields fields(*reader_, checked(CborItem::Type::kMap), place_);
  if constexpr (std::is_void_v<std::invoke_result_t<const Use&, Fields&>>) {
    use(fields);
    fields.check_used();
  } else {
    auto made = use(fields);
    fields.check_used();
    return made;
  }
}

}  // namespace tsvmm
