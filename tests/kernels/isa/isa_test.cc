#include "kernels/isa/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace lectern::kernels {
namespace {

TEST(Isa, EnvironmentDecides) {
  const char* wanted = std::getenv("LECTERN_CPU_ISA");
  if (wanted != nullptr) {
    EXPECT_STREQ(IsaName(CurrentIsa()), wanted);
  } else {
    EXPECT_GE(CurrentIsa(), Isa::kScalar);
  }
  EXPECT_EQ(CurrentIsa(), CurrentIsa());
}

TEST(IsaDeathTest, UnknownNameEndsTheProcessWithTheChoices) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        setenv("LECTERN_CPU_ISA", "avx9000", 1);
        CurrentIsa();
      },
      ::testing::ExitedWithCode(EXIT_FAILURE),
      "avx9000: unknown.*scalar, avx2, avx512, avx512bf16");
}

}  // namespace
}  // namespace lectern::kernels
