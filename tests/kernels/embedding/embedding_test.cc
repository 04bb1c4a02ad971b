#include "kernels/embedding/embedding.h"

#include <gtest/gtest.h>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

TEST(Embedding, GathersExactly) {
  for (int64_t hidden : {1, 15, 64, 513}) {
    for (int64_t rows : {0, 1, 200}) {
      const int64_t vocabulary = 37, stride = hidden + 5;
      const auto table = testing::NormalBf16s(vocabulary * hidden, 1);
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<int32_t>(i * 11 % vocabulary));
      testing::Floats want(static_cast<size_t>(rows * stride), -1), got = want;
      EmbeddingReference({table.data(), ids.data(), want.data(), stride, rows, hidden, vocabulary});
      Embedding({table.data(), ids.data(), got.data(), stride, rows, hidden, vocabulary});
      EXPECT_TRUE(testing::SameBits(want, got));
    }
  }
}

}  // namespace
}  // namespace lectern::kernels
