#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "core/crc32c.h"

namespace tsvmm {
namespace {

/// RFC 3720 §B.4.
TEST(Crc32c, HasTheKnownValues) {
  EXPECT_EQ(crc32c(std::vector<uint8_t>(32, 0)), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::vector<uint8_t>(32, 0xff)), 0x62a8ab43U);
  std::vector<uint8_t> rising(32);
  std::iota(rising.begin(), rising.end(), 0);
  EXPECT_EQ(crc32c(rising), 0x46dd794eU);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Crc32c, GoesOnWhereItStopped) {
  std::vector<uint8_t> bytes(1021);
  std::iota(bytes.begin(), bytes.end(), 7);
  const std::span all(bytes);
  for (const size_t cut : {0, 1, 7, 8, 9, 500, 1021}) {
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), crc32c(all)) << cut;
  }
}

}  // namespace
}  // namespace tsvmm
