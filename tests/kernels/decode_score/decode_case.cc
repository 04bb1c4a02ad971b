#include "tests/kernels/decode_score/decode_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

namespace lectern::kernels::testing {
namespace {

void Fill(std::vector<Bf16>& to, int64_t n) {
  constexpr uint16_t kPoison[3] = {0xffff, 0x7f80, 0x7fc1};
  to.resize(static_cast<size_t>(n));
  for (size_t i = 0; i < to.size(); ++i) to[i] = Bf16{kPoison[i % 3]};
}

}  // namespace

std::string Name(const Case& c) {
  std::string s = "idx " + std::to_string(c.index_dim) + " dim " + std::to_string(c.dim) +
                  " groups " + std::to_string(c.groups) + " heads " + std::to_string(c.heads) +
                  " topk " + std::to_string(c.topk) + " rows " + std::to_string(c.rows) + " keys " +
                  std::to_string(static_cast<int>(c.keys)) + " lengths";
  for (size_t i = 0; i < std::min<size_t>(c.lengths.size(), 8); ++i)
    s += " " + std::to_string(c.lengths[i]);
  return s;
}

Decode::Decode(const Case& c) : shape(c) {
  Noise noise(17 + c.lengths.size() * 31 + static_cast<uint64_t>(c.lengths[0]));
  requests = static_cast<int>(c.lengths.size());
  rows = requests * c.rows;
  stride = (*std::max_element(c.lengths.begin(), c.lengths.end()) + 127) / 128;
  stride = (stride + 3) / 4 * 4;
  int used = 0;
  for (int n : c.lengths) used += (n + 127) / 128;
  const int total = used + 3;  // some pages belong to nobody
  std::vector<int32_t> order(static_cast<size_t>(total));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[noise.Bits() % (i + 1)]);
  pages.assign(static_cast<size_t>(requests * stride), total - 1 - used % 2);
  Fill(index_keys, int64_t{total} * 128 * c.index_dim);
  Fill(k, int64_t{total} * c.groups * 128 * c.dim);
  Fill(v, int64_t{total} * c.groups * 128 * c.dim);
  size_t next = 0;
  for (int r = 0; r < requests; ++r) {
    for (int b = 0; b * 128 < c.lengths[r]; ++b) {
      const int page = order[next++];
      pages[static_cast<size_t>(r * stride + b)] = page;
      const int tokens = std::min(128, c.lengths[r] - b * 128);
      FillKeys(noise, page, b, tokens);
      for (int g = 0; g < c.groups; ++g) {
        for (int64_t i = 0; i < int64_t{tokens} * c.dim; ++i) {
          const int64_t at = (int64_t{page} * c.groups + g) * 128 * c.dim + i;
          k[at] = ToBf16(noise.Normal());
          v[at] = ToBf16(noise.Normal());
        }
      }
    }
  }
  for (int row = 0; row < rows; ++row) {
    const int r = c.with_spans ? requests - 1 - row / c.rows : row / c.rows;
    row_requests.push_back(r);
    positions.push_back(c.lengths[static_cast<size_t>(r)] - c.rows + row % c.rows);
  }
  for (int64_t i = 0; i < int64_t{rows} * c.groups * c.index_dim; ++i) {
    float x = noise.Normal();
    if (c.keys == Keys::kWhole) x = std::round(x * 2);
    if (c.keys == Keys::kNegative) x = std::fabs(x) + 0.1f;
    index_q.push_back(ToBf16(x));
  }
  for (int64_t i = 0; i < int64_t{rows} * c.groups * c.heads * c.dim; ++i)
    q.push_back(ToBf16(noise.Normal()));
  if (c.with_spans) {
    for (int row = 0; row < rows; row += c.rows) {
      const int r = row_requests[static_cast<size_t>(row)];
      const int half = c.lengths[static_cast<size_t>(r)] / 256;
      spans.push_back({row, c.rows, r, half, INT32_MAX});
      spans.push_back({row, c.rows, r, 0, half});
    }
    d_spans = DeviceArray<DecodeSpan>(spans);
  }
  d_index_keys = DeviceArray<Bf16>(index_keys);
  d_k = DeviceArray<Bf16>(k);
  d_v = DeviceArray<Bf16>(v);
  d_index_q = DeviceArray<Bf16>(index_q);
  d_q = DeviceArray<Bf16>(q);
  d_pages = DeviceArray<int32_t>(pages);
  d_positions = DeviceArray<int32_t>(positions);
  d_row_requests = DeviceArray<int32_t>(row_requests);
  scores = DeviceArray<float>(RowGroups() * stride);
  selected = DeviceArray<int32_t>(RowGroups() * c.topk);
  out = DeviceArray<Bf16>(RowGroups() * c.heads * c.dim);
  lse = DeviceArray<float>(RowGroups() * c.heads);
  block_lse = DeviceArray<float>(RowGroups() * c.topk * c.heads);
}

void Decode::FillKeys(Noise& noise, int page, int block, int tokens) {
  Bf16* to = index_keys.data() + int64_t{page} * 128 * shape.index_dim;
  Noise topic(static_cast<uint64_t>(block / 5 + 3));
  std::vector<float> center(static_cast<size_t>(shape.index_dim));
  for (float& x : center) x = topic.Normal();
  for (int i = 0; i < tokens * shape.index_dim; ++i) {
    float x = noise.Normal();
    switch (shape.keys) {
      case Keys::kNormal:
        break;
      case Keys::kWhole:
        x = std::round(x * 2);
        break;
      case Keys::kEqual:
        x = 0.5f;
        break;
      case Keys::kNegative:
        x = -std::fabs(x) - 0.1f;
        break;
      case Keys::kBroken: {
        const uint64_t dice = noise.Bits() % 20000;
        if (dice == 0) x = std::nanf("");
        if (dice == 1) x = INFINITY;
        if (dice == 2) x = -INFINITY;
        if (block % 7 == 3) x = std::nanf("");  // whole blocks of nothing else
        break;
      }
      case Keys::kTopical:
        x = x * 0.5f + center[static_cast<size_t>(i % shape.index_dim)];
        break;
    }
    to[i] = ToBf16(x);
  }
}

DecodeScoreParams Decode::Score(bool device) {
  DecodeScoreParams p = {};
  p.q = device ? d_index_q.get() : index_q.data();
  p.keys = device ? d_index_keys.get() : index_keys.data();
  p.num_pages = static_cast<int64_t>(index_keys.size()) / 128 / shape.index_dim;
  p.pages = device ? d_pages.get() : pages.data();
  p.pages_stride = stride;
  p.positions = device ? d_positions.get() : positions.data();
  if (shape.with_spans) p.spans = device ? d_spans.get() : spans.data();
  p.num_spans = shape.with_spans ? static_cast<int>(spans.size()) : requests;
  p.span_rows = shape.rows;
  p.heads = shape.groups;
  p.dim = shape.index_dim;
  p.scores = scores.get();
  p.scores_stride = stride;
  return p;
}

DecodeAttentionParams Decode::Attention(bool device) {
  DecodeAttentionParams p = {};
  p.q = device ? d_q.get() : q.data();
  p.k = device ? d_k.get() : k.data();
  p.v = device ? d_v.get() : v.data();
  p.pages = device ? d_pages.get() : pages.data();
  p.pages_stride = stride;
  p.positions = device ? d_positions.get() : positions.data();
  p.request_rows = shape.rows;
  if (shape.with_spans) p.row_requests = device ? d_row_requests.get() : row_requests.data();
  p.rows = rows;
  p.groups = shape.groups;
  p.heads = shape.heads;
  p.dim = shape.dim;
  p.topk = shape.topk;
  p.scale = 1 / std::sqrt(static_cast<float>(shape.dim));
  p.scores = scores.get();
  p.scores_stride = stride;
  p.selected = selected.get();
  p.out = out.get();
  p.lse = lse.get();
  p.block_lse = block_lse.get();
  return p;
}

void Decode::Poison() {
  scores.Fill(0xff);
  selected.Fill(0x77);
  out.Fill(0xff);
  lse.Fill(0xff);
  block_lse.Fill(0xff);
}

Decode::Result Decode::Read() {
  Check(cudaDeviceSynchronize(), "the kernels");
  return {scores.Host(), selected.Host(), out.Host(), lse.Host(), block_lse.Host()};
}

Decode::Result Decode::Run(DecodeScoreWay score_way, DecodeAttentionWay way, bool after_score) {
  Poison();
  Check(DecodeScore(Score(), nullptr, score_way), "DecodeScore");
  Check(DecodeAttention(Attention(), nullptr, after_score, way), "DecodeAttention");
  return Read();
}

double Decode::KeyNorm() const {
  double most = 0;
  for (size_t i = 0; i < index_keys.size(); i += static_cast<size_t>(shape.index_dim)) {
    double sum = 0;
    for (int d = 0; d < shape.index_dim; ++d) sum += std::pow(ToFloat(index_keys[i + d]), 2);
    if (std::isfinite(sum)) most = std::max(most, sum);
  }
  return std::sqrt(most);
}

double Decode::QueryNorm(size_t row_group) const {
  double sum = 0;
  for (int d = 0; d < shape.index_dim; ++d)
    sum += std::pow(ToFloat(index_q[row_group * shape.index_dim + d]), 2);
  return std::sqrt(sum);
}

void Decode::CheckScores(const Result& r) {
  reference.assign(RowGroups() * static_cast<size_t>(stride), NAN);
  DecodeScoreParams p = Score(false);
  p.scores = reference.data();
  DecodeScoreReference(p);
  const double key_norm = KeyNorm();
  double worst = 0;
  int shown = 0;
  for (size_t rg = 0; rg < RowGroups(); ++rg) {
    const int own = positions[rg / shape.groups] / 128;
    const double unit = QueryNorm(rg) * key_norm;
    for (int b = 0; b < own; ++b) {
      const size_t at = rg * static_cast<size_t>(stride) + static_cast<size_t>(b);
      const float got = r.scores[at], expected = reference[at];
      const double error = got == expected ? 0 : std::fabs(double{got} - expected) / unit;
      if (!(error <= 1e-6) && shown++ < 3) {
        ADD_FAILURE() << Name(shape) << ": score of row-group " << rg << " block " << b << " is "
                      << got << ", expected " << expected;
      }
      if (error > worst) worst = error;
    }
  }
  std::printf("  %s: scores within %.2e |q||k|\n", Name(shape).c_str(), worst);
}

void Decode::CheckSelection(const Result& r) {
  const double key_norm = KeyNorm();
  int ties = 0, shown = 0;
  for (size_t rg = 0; rg < RowGroups(); ++rg) {
    const int own = positions[rg / shape.groups] / 128;
    const float* scores = reference.data() + rg * static_cast<size_t>(stride);
    std::vector<int> order(static_cast<size_t>(own));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return scores[a] > scores[b]; });
    const size_t free = std::min(order.size(), static_cast<size_t>(shape.topk - 1));
    std::vector<int> expected(order.begin(), order.begin() + static_cast<int64_t>(free));
    expected.push_back(own);
    std::sort(expected.begin(), expected.end());
    expected.resize(static_cast<size_t>(shape.topk), -1);
    const std::vector<int> got(r.selected.begin() + static_cast<int64_t>(rg) * shape.topk,
                               r.selected.begin() + static_cast<int64_t>(rg + 1) * shape.topk);
    if (got == expected) continue;
    const bool exact = shape.keys == Keys::kWhole || shape.keys == Keys::kEqual;
    const double slack = exact ? 0 : 1e-5 * QueryNorm(rg) * key_norm;
    const double threshold = free > 0 ? scores[order[free - 1]] : 0;
    bool tie = !exact &&
               std::is_sorted(got.begin(), got.begin() + static_cast<int64_t>(free) + 1) &&
               std::adjacent_find(got.begin(), got.begin() + static_cast<int64_t>(free) + 1) ==
                   got.begin() + static_cast<int64_t>(free) + 1 &&
               got[free] == own;
    for (size_t i = 0; tie && i < free; ++i)
      tie = got[i] >= 0 && got[i] < own && std::fabs(scores[got[i]] - threshold) <= slack
                ? true
                : got[i] >= 0 && got[i] < own && scores[got[i]] > threshold;
    if (tie) {
      ++ties;
    } else if (shown++ < 2) {
      std::string text;
      for (int b : got) text += " " + std::to_string(b);
      text += " expected";
      for (int b : expected) text += " " + std::to_string(b);
      ADD_FAILURE() << Name(shape) << ": row-group " << rg << " selected" << text;
    }
  }
  if (ties > 0) std::printf("  %s: %d ties within 1e-5 |q||k|\n", Name(shape).c_str(), ties);
}

void Decode::CheckOutputs(const Result& r, const std::vector<int32_t>& chosen, int topk,
                          const char* what) {
  const bool blocks = topk == shape.topk;
  DecodeAttentionParams p = Attention(false);
  std::vector<double> out(r.out.size());
  std::vector<float> lse(r.lse.size()), block_lse(r.block_lse.size());
  p.scores = nullptr;
  p.chosen = chosen.data();
  p.topk = topk;
  p.selected = nullptr;
  p.out = nullptr;
  p.lse = lse.data();
  p.block_lse = blocks ? block_lse.data() : nullptr;
  DecodeAttentionReference(p, out.data());
  double worst = 0, cosine = 0, worst_lse = 0, worst_block = 0;
  int64_t worst_at = -1;
  for (size_t i = 0; i < out.size(); i += static_cast<size_t>(shape.dim)) {
    double ab = 0, aa = 0, bb = 0;
    for (int d = 0; d < shape.dim; ++d) {
      const double a = out[i + d], b = ToFloat(r.out[i + d]);
      ab += a * b;
      aa += a * a;
      bb += b * b;
      const double error = std::fabs(a - b);
      if (!(error <= worst)) worst = error, worst_at = static_cast<int64_t>(i) + d;
    }
    const double off = aa == 0 && bb == 0 ? 0 : 1 - ab / std::sqrt(aa * bb);
    if (!(off <= cosine)) cosine = off;
  }
  for (size_t i = 0; i < lse.size(); ++i) {
    const double error = lse[i] == r.lse[i] ? 0 : std::fabs(double{lse[i]} - r.lse[i]);
    if (!(error <= worst_lse)) worst_lse = error;
  }
  for (size_t i = 0; blocks && i < block_lse.size(); ++i) {
    const double error =
        block_lse[i] == r.block_lse[i] ? 0 : std::fabs(double{block_lse[i]} - r.block_lse[i]);
    if (!(error <= worst_block)) worst_block = error;
  }
  EXPECT_LE(worst, 1e-2) << Name(shape) << " " << what << " at " << worst_at << ": expected "
                         << out[static_cast<size_t>(std::max<int64_t>(worst_at, 0))];
  EXPECT_LE(cosine, 1e-5) << Name(shape) << " " << what;
  EXPECT_LE(worst_lse, 1e-4) << Name(shape) << " " << what;
  EXPECT_LE(worst_block, 1e-4) << Name(shape) << " " << what;
  std::printf("  %s %s: out %.2e, 1 - cosine %.2e, lse %.2e, block lse %.2e\n", Name(shape).c_str(),
              what, worst, cosine, worst_lse, worst_block);
}

}  // namespace lectern::kernels::testing
