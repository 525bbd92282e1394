#include "core/message.h"

#include <algorithm>
#include <utility>

namespace tsvmm {
namespace {

using Type = CborItem::Type;

std::string path_of(const ValuePlace& place) {
  if (place.parent == nullptr) return {};
  const std::string parent = path_of(*place.parent);
  if (place.index) return parent + "[" + std::to_string(*place.index) + "]";
  return parent.empty() ? std::string(place.name) : parent + "." + std::string(place.name);
}

std::string named(const std::string& path) { return path.empty() ? "the message" : path; }

std::string describe(const Wanted& wanted) {
  switch (wanted.type) {
    case Type::kUnsigned:
    case Type::kNegative:
      return "a whole number from " + std::to_string(wanted.min) + " to " +
             std::to_string(wanted.max);
    case Type::kBytes:
      return wanted.min == wanted.max ? std::to_string(wanted.max) + " bytes" : "bytes";
    case Type::kText:
      break;
    case Type::kArray:
      return "an array";
    case Type::kMap:
      return "an object";
    case Type::kBoolean:
      return "a boolean";
    case Type::kNull:
      return "null";
    case Type::kDescriptor:
      return "a descriptor that is named nowhere else";
  }
  if (wanted.choices.empty()) return "a text";
  std::string words;
  for (const std::string& word : wanted.choices) words += (words.empty() ? "" : ", ") + word;
  return "one of " + words;
}

}  // namespace

ValueError::ValueError(std::string path, Wanted wanted)
    : Error("ERR_TSVMM_MESSAGE", named(path) + " must be " + describe(wanted)),
      path_(std::move(path)),
      wanted_(std::move(wanted)) {}

Value::Value(MessageReader& reader, size_t at, ValuePlace place)
    : reader_(&reader), item_(at == kMissing ? nullptr : &reader.items_[at]), place_(place) {}

void Value::fail(Wanted wanted) const { throw ValueError(path_of(place_), std::move(wanted)); }

const CborItem& Value::checked(Type type) const {
  if (item_ == nullptr || item_->type != type) fail({.type = type});
  return *item_;
}

size_t Value::first_inside() const {
  return static_cast<size_t>(item_ - reader_->items_.data()) + 1;
}

uint64_t Value::number(uint64_t max, uint64_t min) const {
  if (item_ == nullptr || item_->type != Type::kUnsigned || item_->number > max ||
      item_->number < min) {
    fail({.type = Type::kUnsigned, .min = min, .max = max});
  }
  return item_->number;
}

bool Value::boolean() const { return checked(Type::kBoolean).number != 0; }

std::string Value::text() const { return std::string(checked(Type::kText).text()); }

std::span<const uint8_t> Value::bytes_of(uint64_t min, uint64_t max) const {
  if (item_ == nullptr || item_->type != Type::kBytes || item_->bytes.size() < min ||
      item_->bytes.size() > max) {
    fail({.type = Type::kBytes, .min = min, .max = max});
  }
  return item_->bytes;
}

std::vector<uint8_t> Value::bytes() const {
  const auto found = bytes_of(0, kMaxExact);
  return {found.begin(), found.end()};
}

UniqueFd Value::descriptor() const {
  const uint64_t index = checked(Type::kDescriptor).number;
  if (index >= reader_->descriptors_.size() || !reader_->descriptors_[index].valid()) {
    fail({.type = Type::kDescriptor});
  }
  return std::move(reader_->descriptors_[index]);
}

size_t Value::choice(std::span<const std::string_view> words) const {
  const auto found = item_ != nullptr && item_->type == Type::kText
                         ? std::ranges::find(words, item_->text())
                         : words.end();
  if (found == words.end()) {
    fail({.type = Type::kText, .choices = {words.begin(), words.end()}});
  }
  return static_cast<size_t>(found - words.begin());
}

Fields::Fields(MessageReader& reader, const CborItem& map, const ValuePlace& place)
    : reader_(&reader), place_(&place) {
  fields_.reserve(map.number);
  size_t at = static_cast<size_t>(&map - reader.items_.data()) + 1;
  while (at < map.next) {
    fields_.push_back({.name = reader.items_[at].text(), .at = at + 1});
    at = reader.items_[at + 1].next;
  }
}

Fields::Field* Fields::find(std::string_view name) {
  const auto found = std::ranges::find(fields_, name, &Field::name);
  return found == fields_.end() ? nullptr : &*found;
}

Value Fields::operator[](std::string_view name) {
  Field* field = find(name);
  if (field != nullptr) field->used = true;
  return {*reader_,
          field == nullptr ? Value::kMissing : field->at,
          {.parent = place_, .name = name, .index = {}}};
}

bool Fields::has(std::string_view name) { return find(name) != nullptr; }

void Fields::check_used() const {
  const auto unknown = std::ranges::find(fields_, false, &Field::used);
  if (unknown == fields_.end()) return;
  const ValuePlace place{.parent = place_, .name = unknown->name, .index = {}};
  throw Error("ERR_TSVMM_MESSAGE", path_of(place) + " is not known");
}

}  // namespace tsvmm
