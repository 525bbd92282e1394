#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <set>
#include <string>

#include "core/error.h"
#include "spec_grower.h"

namespace tsvmm {
namespace {

using message_test::Node;
using message_test::SpecGrower;
using Type = CborItem::Type;

UniqueFd any_file(const std::string& /*path*/) {
  return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC));
}

/// Each kind that a machine can have.
class DeviceKinds : public testing::TestWithParam<size_t> {
 protected:
  static std::string read(SpecGrower& spec) {
    try {
      (void)spec.read();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "ERR_TSVMM_MESSAGE");
      return error.what();
    }
    return "";
  }

  SpecGrower spec{device_kinds()[GetParam()], {}, any_file};
};

TEST_P(DeviceKinds, RefuseEachFieldThatIsNotWhatItHasToBe) {
  for (const std::string& path : spec.paths()) {
    Node& node = spec.at(path);
    const Node before = node;
    for (const Type type : {Type::kNull, Type::kUnsigned, Type::kText, Type::kBytes, Type::kArray,
                            Type::kMap, Type::kDescriptor}) {
      if (type == before.type) continue;
      node = {.type = type, .number = 0, .text = {}, .inside = {}};
      EXPECT_TRUE(read(spec).starts_with(path + " must be ")) << path << ": " << read(spec);
    }
    node = before;
    EXPECT_EQ(read(spec), "");
  }
}

TEST_P(DeviceKinds, RefuseANumberThatIsTooLarge) {
  for (const std::string& path : spec.paths()) {
    Node& node = spec.at(path);
    if (node.type != Type::kUnsigned) continue;
    const uint64_t before = std::exchange(node.number, UINT64_MAX);
    EXPECT_TRUE(read(spec).starts_with(path + " must be a whole number")) << path;
    node.number = before;
  }
}

TEST_P(DeviceKinds, RefuseAWordThatThereIsNot) {
  for (const std::string& path : spec.paths()) {
    Node& node = spec.at(path);
    if (node.type != Type::kText || node.text.empty()) continue;
    const std::string before = std::exchange(node.text, "nonsense");
    EXPECT_TRUE(read(spec).starts_with(path + " must be one of ")) << path;
    node.text = before;
  }
}

TEST_P(DeviceKinds, RefuseAFieldThatNobodyKnows) {
  for (const std::string& path : spec.paths()) {
    Node& node = spec.at(path);
    if (node.type != Type::kMap) continue;
    node.inside.push_back({.name = "unknown", .value = {}});
    EXPECT_EQ(read(spec), path + ".unknown is not known");
    node.inside.pop_back();
  }
}

INSTANTIATE_TEST_SUITE_P(All, DeviceKinds, testing::Range(size_t{0}, device_kinds().size()),
                         [](const auto& info) {
                           return std::string(device_kinds()[info.param].name);
                         });

TEST(DeviceKindList, HasAKindThatIsAFileAndALine) {
  // The tests above, those of state and the fuzz targets go through this list.
  EXPECT_EQ(std::ranges::count(device_kinds(), "gadget", &DeviceKind::name), 1);
}

TEST(DeviceKindList, HasEachNameOnce) {
  std::set<std::string_view> names;
  for (const DeviceKind& kind : device_kinds()) EXPECT_TRUE(names.insert(kind.name).second);
  EXPECT_EQ(names.size(), device_kinds().size());
}

}  // namespace
}  // namespace tsvmm
