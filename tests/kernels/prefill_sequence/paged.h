#pragma once

// A batch of contexts in a paged pool, with poison wherever no token is.

#include <algorithm>
#include <numeric>

#include "kernels/prefill_sequence/prefill_sequence.h"
#include "tests/kernels/cuda/device.h"

namespace lectern::kernels::testing {

constexpr int kPage = 128;

struct Chunk {
  int first;  // tokens before it
  int rows;
};

// Where the tokens of a batch's contexts lie. Pages are shuffled.
struct Layout {
  std::vector<PrefillSequence> sequences;
  std::vector<int32_t> table;
  int pages = 0, rows = 0, max_rows = 0, max_tokens = 0;

  Layout(const std::vector<Chunk>& chunks, uint64_t seed) {
    for (const Chunk& c : chunks) {
      sequences.push_back({rows, c.rows, c.first, static_cast<int32_t>(table.size())});
      const int tokens = c.first + c.rows;
      rows += c.rows;
      max_rows = std::max(max_rows, c.rows);
      max_tokens = std::max(max_tokens, tokens);
      table.resize(table.size() + (tokens + kPage - 1) / kPage);
    }
    pages = static_cast<int>(table.size()) + 3;
    std::vector<int32_t> order(pages);
    std::iota(order.begin(), order.end(), 0);
    Noise noise(seed);
    for (int i = pages - 1; i > 0; --i) std::swap(order[i], order[noise.Below(i + 1)]);
    std::copy_n(order.begin(), table.size(), table.begin());
  }

  int Tokens(const PrefillSequence& s) const { return s.first + s.rows; }
  const PrefillSequence& SequenceOf(int row) const {
    return *std::find_if(sequences.begin(), sequences.end(), [row](const PrefillSequence& s) {
      return row >= s.row && row < s.row + s.rows;
    });
  }
  int64_t Slot(const PrefillSequence& s, int token) const {  // row of the pool, for one head
    return int64_t{table[s.page_begin + token / kPage]} * kPage + token % kPage;
  }

  // [pages][heads][128][dim]: random where tokens are, NaN elsewhere.
  std::vector<Bf16> Pool(int heads, int dim, Noise& noise, float scale = 1.0f) const {
    std::vector<Bf16> pool(size_t(pages) * heads * kPage * dim, Bf16{0x7fff});
    for (const PrefillSequence& s : sequences)
      for (int t = 0; t < Tokens(s); ++t)
        for (int h = 0; h < heads; ++h) {
          Bf16* to = Key(pool, heads, dim, s, t, h);
          for (int i = 0; i < dim; ++i) to[i] = ToBf16(noise.Normal() * scale);
        }
    return pool;
  }
  // The fields that say so to a kernel; both arrays are copies of this one's.
  template <typename Params>
  void Describe(const DeviceArray<int32_t>& on_device, const DeviceArray<PrefillSequence>& contexts,
                Params& p) const {
    p.pages = pages;
    p.page_table = on_device.get();
    p.sequences = contexts.get();
    p.num_sequences = static_cast<int>(sequences.size());
    p.max_rows = max_rows;
    p.max_tokens = max_tokens;
    p.rows = rows;
  }
  Bf16* Key(std::vector<Bf16>& pool, int heads, int dim, const PrefillSequence& s, int token,
            int head) const {
    const int64_t page = table[s.page_begin + token / kPage];
    return pool.data() + ((page * heads + head) * kPage + token % kPage) * dim;
  }
};

}  // namespace lectern::kernels::testing
