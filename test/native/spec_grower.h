#pragma once

#include <charconv>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message_test_support.h"
#include "virtio/device_kind.h"

namespace tsvmm::message_test {

struct NamedNode;

/// A value of a message that is being written.
struct Node {
  CborItem::Type type = CborItem::Type::kNull;
  uint64_t number = 0;            ///< kUnsigned, kBoolean
  std::string text;               ///< kText; kBytes: as many zeros
  std::vector<NamedNode> inside;  ///< kMap by name; kArray without
};

struct NamedNode {
  std::string name;
  Node value;
};

/// Makes a specification of a kind of device from nothing but what its reader asks for, so that
/// tests and fuzzers need no list of kinds and their fields.
class SpecGrower {
 public:
  /// The host's end for a descriptor at a path.
  using HostEnd = std::function<UniqueFd(const std::string& path)>;

  /// Fields whose values cannot be any.
  struct Known {
    std::string_view name;
    uint64_t number = 0;
    std::string_view text = {};
  };

  SpecGrower(const DeviceKind& kind, std::vector<Known> known, HostEnd host_end)
      : kind_(kind), known_(std::move(known)), host_end_(std::move(host_end)) {
    root_.type = CborItem::Type::kMap;
    while (grow_once()) {
    }
  }

  /// Of everything that was asked for.
  [[nodiscard]] const std::vector<std::string>& paths() const { return paths_; }
  [[nodiscard]] Node& at(const std::string& path) { return find(root_, path); }
  [[nodiscard]] Node& root() { return root_; }

  /// Reads what has grown. Throws Error.
  [[nodiscard]] std::unique_ptr<DeviceSpec> read() {
    MessageBuilder builder;
    write(builder, root_, "");
    return read_map(builder.take(), [this](Fields& fields) { return kind_.read(fields); });
  }

 private:
  bool grow_once() {
    try {
      (void)read();
      return false;
    } catch (const ValueError& error) {
      if (paths_.size() == kMaxValues) throw std::runtime_error("never enough: " + error.path());
      paths_.push_back(error.path());
      fill(find(root_, error.path()), error);
      return true;
    }
  }

  void fill(Node& node, const ValueError& error) const {
    const Wanted& wanted = error.wanted();
    node.type = wanted.type;
    node.number = wanted.min;
    if (!wanted.choices.empty()) node.text = wanted.choices.front();
    if (wanted.type == CborItem::Type::kBytes) node.text.assign(wanted.min, '\0');
    if (wanted.type == CborItem::Type::kArray) node.inside.push_back({});
    for (const auto& [name, number, text] : known_) {
      if (!error.path().ends_with(name)) continue;
      node.number = number;
      if (wanted.choices.empty() && wanted.type == CborItem::Type::kText) node.text = text;
    }
  }

  /// `a.b[0].c`, which is made if it is not there.
  static Node& find(Node& from, std::string_view path) {
    if (path.empty()) return from;
    if (path.front() == '.') path.remove_prefix(1);
    if (path.front() == '[') {
      size_t index = 0;
      const auto end = path.find(']');
      std::from_chars(path.data() + 1, path.data() + end, index);
      return find(from.inside.at(index).value, path.substr(end + 1));
    }
    const auto end = std::min(path.find_first_of(".["), path.size());
    const std::string name(path.substr(0, end));
    for (auto& [known, node] : from.inside) {
      if (known == name) return find(node, path.substr(end));
    }
    from.inside.push_back({.name = name, .value = {}});
    return find(from.inside.back().value, path.substr(end));
  }

  void write(MessageBuilder& builder, const Node& node, const std::string& path) const {
    CborWriter& writer = builder.writer();
    switch (node.type) {
      case CborItem::Type::kUnsigned:
        writer.number(node.number);
        break;
      case CborItem::Type::kBoolean:
        writer.boolean(node.number != 0);
        break;
      case CborItem::Type::kText:
        writer.text(node.text);
        break;
      case CborItem::Type::kBytes:
        writer.bytes(std::vector<uint8_t>(node.text.size()));
        break;
      case CborItem::Type::kDescriptor:
        builder.descriptor(host_end_(path).get());
        break;
      case CborItem::Type::kArray:
        writer.array(node.inside.size());
        for (const auto& [_, element] : node.inside) write(builder, element, path);
        break;
      case CborItem::Type::kMap:
        writer.map(node.inside.size());
        for (const auto& [name, value] : node.inside) {
          writer.key(name);
          write(builder, value, path.empty() ? name : path + "." + name);
        }
        break;
      case CborItem::Type::kNegative:
      case CborItem::Type::kNull:
        writer.null();
        break;
    }
  }

  static constexpr size_t kMaxValues = 200;

  const DeviceKind& kind_;
  const std::vector<Known> known_;
  const HostEnd host_end_;
  Node root_;
  std::vector<std::string> paths_;
};

}  // namespace tsvmm::message_test
