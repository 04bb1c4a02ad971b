#include "kernels/cache_pages/cache_pages_cuda.h"

#include "tests/kernels/support/gpu.h"

namespace lectern::kernels {
namespace {

using testing::DeviceArray;

constexpr int kDims[] = {16, 64, 80, 128, 256};

// Every 16-bit word, NaN payloads too.
std::vector<Bf16> Words(int64_t n, uint64_t seed) {
  testing::Noise noise(seed);
  std::vector<Bf16> out(static_cast<size_t>(n));
  for (Bf16& x : out) x.bits = static_cast<uint16_t>(noise.Bits() >> 7);
  return out;
}

class CachePages : public testing::NeedsGpu<::testing::TestWithParam<int>> {};

TEST_P(CachePages, KeysAndValuesGoWhereTheCpuPacksThem) {
  const int dim = GetParam();
  const int64_t tile = TileElements(dim);
  for (int kv_heads : {1, 3}) {
    const int64_t stride = 2 * kv_heads * tile + 8, pages = 6;
    const std::vector<int32_t> places = {4, 0, 2, 3}, where = {1, 5, -1, 0};
    const std::vector<Bf16> tiles = Words(5 * stride, 15), k = Words(pages * kv_heads * tile, 16),
                            v = Words(pages * kv_heads * tile, 17);
    const DeviceArray<int32_t> device_places(places), device_pages(where);
    const auto params = [&](DeviceArray<Bf16>& t, DeviceArray<Bf16>& kk, DeviceArray<Bf16>& vv,
                            CopyPages direction) {
      return KvPagesCudaParams{t.get(),
                               stride,
                               kk.get(),
                               vv.get(),
                               device_places.get(),
                               device_pages.get(),
                               static_cast<int32_t>(places.size()),
                               kv_heads,
                               dim,
                               direction};
    };
    // What the CPU makes of it, in both directions.
    std::vector<Bf16> want_k = k, want_v = v, want_tiles = tiles;
    for (size_t i = 0; i < places.size(); ++i) {
      for (int h = 0; h < kv_heads && where[i] >= 0; ++h) {
        const int64_t page = (int64_t{where[i]} * kv_heads + h) * tile;
        const int64_t at = places[i] * stride + 2 * h * tile;
        const TileRun run = {0, kBlockTokens, dim};
        UnpackKeysReference(run, tiles.data() + at, want_k.data() + page, dim);
        UnpackValuesReference(run, tiles.data() + at + tile, want_v.data() + page, dim);
        PackKeysReference(run, k.data() + page, dim, want_tiles.data() + at);
        PackValuesReference(run, v.data() + page, dim, want_tiles.data() + at + tile);
      }
    }
    {
      DeviceArray<Bf16> t(tiles), kk(k), vv(v);
      ASSERT_EQ(CopyKvPagesCuda(params(t, kk, vv, CopyPages::kTilesToPages), nullptr), 0);
      EXPECT_TRUE(testing::SameBits(want_k, kk.Host())) << dim;
      EXPECT_TRUE(testing::SameBits(want_v, vv.Host())) << dim;
      EXPECT_TRUE(testing::SameBits(tiles, t.Host())) << dim;
    }
    DeviceArray<Bf16> t(tiles), kk(k), vv(v);
    ASSERT_EQ(CopyKvPagesCuda(params(t, kk, vv, CopyPages::kPagesToTiles), nullptr), 0);
    EXPECT_TRUE(testing::SameBits(want_tiles, t.Host())) << dim;
    EXPECT_TRUE(testing::SameBits(k, kk.Host())) << dim;
    EXPECT_TRUE(testing::SameBits(v, vv.Host())) << dim;
  }
}

TEST_P(CachePages, IndexKeysOfAllLayersGoWhereTheCpuPacksThem) {
  const int dim = GetParam();
  const int64_t tile = TileElements(dim), pages = 5, layers = 3;
  const int64_t stride = layers * tile + 64, layer_stride = pages * tile + 8;
  const std::vector<int32_t> where = {3, -1, 0};
  const std::vector<Bf16> tiles = Words(3 * stride, 18), keys = Words(layers * layer_stride, 19);
  const DeviceArray<int32_t> device_pages(where);
  std::vector<Bf16> want_keys = keys, want_tiles = tiles;
  for (size_t i = 0; i < where.size(); ++i) {
    for (int64_t layer = 0; layer < layers && where[i] >= 0; ++layer) {
      const int64_t at = static_cast<int64_t>(i) * stride + layer * tile;
      const int64_t page = layer * layer_stride + where[i] * tile;
      UnpackKeysReference({0, kBlockTokens, dim}, tiles.data() + at, want_keys.data() + page, dim);
      PackKeysReference({0, kBlockTokens, dim}, keys.data() + page, dim, want_tiles.data() + at);
    }
  }
  for (CopyPages direction : {CopyPages::kTilesToPages, CopyPages::kPagesToTiles}) {
    const bool to_pages = direction == CopyPages::kTilesToPages;
    DeviceArray<Bf16> t(tiles), k(keys);
    const auto launch = [&](cudaStream_t stream) {
      return CopyIndexPagesCuda(
          {t.get(), stride, k.get(), layer_stride, nullptr, device_pages.get(),
           static_cast<int32_t>(where.size()), static_cast<int32_t>(layers), dim, direction},
          stream);
    };
    const auto host = [&] { return to_pages ? k.Host() : t.Host(); };
    const std::vector<Bf16> got = testing::Outcome([] {}, launch, host);
    EXPECT_TRUE(testing::SameBits(to_pages ? want_keys : want_tiles, got)) << dim;
  }
}

INSTANTIATE_TEST_SUITE_P(Dims, CachePages, ::testing::ValuesIn(kDims));

}  // namespace
}  // namespace lectern::kernels
