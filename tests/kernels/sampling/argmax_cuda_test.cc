#include "kernels/sampling/argmax_cuda.h"

#include <limits>

#include "kernels/sampling/sampling.h"
#include "tests/kernels/support/gpu.h"

namespace lectern::kernels {
namespace {

using testing::DeviceArray;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int kVocabularies[] = {1, 5, 1000, 8191, 8192, 8193, 100003, 200064};

struct Answer {
  std::vector<int32_t> ids;
  std::vector<float> log_probability;
};

class ArgmaxCudas : public testing::GpuTest {
 protected:
  static Answer Argmax(int rows, int vocabulary, int64_t stride, const std::vector<float>& logits) {
    const DeviceArray<float> in(logits);
    const auto n = static_cast<size_t>(rows);
    DeviceArray<int32_t> ids(n);
    DeviceArray<float> log_probability(n);
    DeviceArray<uint8_t> workspace(static_cast<size_t>(ArgmaxCudaWorkspaceBytes(rows, vocabulary)));
    ArgmaxCudaParams p = {in.get(), stride, rows, vocabulary, ids.get(), nullptr, workspace.get()};
    Answer answer;
    const std::vector<int32_t> ids_alone =
        testing::Outcome(ids, [&](cudaStream_t stream) { return ArgmaxCuda(p, stream); });
    p.log_probability = log_probability.get();
    answer.log_probability = testing::Outcome(
        log_probability, [&](cudaStream_t stream) { return ArgmaxCuda(p, stream); });
    answer.ids = ids.Host();
    EXPECT_EQ(ids_alone, answer.ids);
    return answer;
  }
  static void ExpectTheCpus(int rows, int vocabulary, int64_t stride,
                            const std::vector<float>& logits) {
    const Answer got = Argmax(rows, vocabulary, stride, logits);
    for (int r = 0; r < rows; ++r) {
      SampleParams p{};
      p.logits = logits.data() + r * stride;
      p.vocabulary = vocabulary;
      const SampledToken want = Sample(p);
      const auto at = static_cast<size_t>(r);
      EXPECT_EQ(got.ids[at], want.id) << "row " << r << " of " << vocabulary;
      if (std::isnan(want.log_probability)) {
        EXPECT_TRUE(std::isnan(got.log_probability[at])) << "row " << r << " of " << vocabulary;
      } else {
        EXPECT_NEAR(got.log_probability[at], want.log_probability, 1e-5) << r << " " << vocabulary;
      }
    }
  }
};

TEST_F(ArgmaxCudas, IsTheCpus) {
  for (int vocabulary : kVocabularies) {
    for (int64_t more : {0, 3, 4}) {
      for (float scale : {0.5f, 8.0f}) {
        const int rows = 3;
        const int64_t stride = vocabulary + more;
        std::vector<float> logits = testing::Normals(rows * stride, 9, scale);
        ExpectTheCpus(rows, vocabulary, stride, logits);
      }
    }
  }
}

TEST_F(ArgmaxCudas, TiesGoToTheLowerIdAndNanIsLast) {
  for (int vocabulary : kVocabularies) {
    const int rows = 9;
    const int64_t stride = vocabulary;
    testing::Noise noise(10);
    std::vector<float> logits(static_cast<size_t>(rows * stride));
    const auto fill = [&](int row, auto value) {
      for (int i = 0; i < vocabulary; ++i) logits[static_cast<size_t>(row * stride + i)] = value(i);
    };
    fill(0, [](int) { return 1.5f; });
    fill(1, [](int) { return kNan; });
    fill(2, [](int) { return -kInfinity; });
    fill(3, [](int i) { return i % 7 == 0 ? -0.0f : 0.0f; });
    fill(4, [&](int) { return static_cast<float>(noise.Below(3)); });
    fill(5, [&](int) { return noise.Below(3) == 0 ? kNan : static_cast<float>(-noise.Below(4)); });
    fill(6, [&](int i) { return i == vocabulary - 1 ? -1e30f : kNan; });
    fill(7, [&](int i) { return i == vocabulary / 2 ? kInfinity : 0.0f; });
    fill(8, [&](int i) { return i == vocabulary - 1 ? -1.0f : -2.0f; });
    ExpectTheCpus(rows, vocabulary, stride, logits);
  }
}

TEST_F(ArgmaxCudas, RowsDoNotDependOnCompany) {
  const int rows = 40, vocabulary = 100003;
  const std::vector<float> logits = testing::Normals(int64_t{rows} * vocabulary, 11, 4);
  const Answer all = Argmax(rows, vocabulary, vocabulary, logits);
  for (int r : {0, 21, 39}) {
    const int64_t first = int64_t{r} * vocabulary;
    const Answer alone = Argmax(1, vocabulary, vocabulary,
                                {logits.begin() + first, logits.begin() + first + vocabulary});
    EXPECT_EQ(alone.ids[0], all.ids[static_cast<size_t>(r)]);
    EXPECT_EQ(alone.log_probability[0], all.log_probability[static_cast<size_t>(r)]);
  }
}

}  // namespace
}  // namespace lectern::kernels
