#include "kernels/matmul/matmul.h"

#include <omp.h>

#include <algorithm>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "kernels/isa/isa.h"
#include "oneapi/dnnl/dnnl.hpp"

// MatmulTiles on oneDNN. MatVec is in matvec_cpu.cc.

namespace lectern::kernels {
namespace {

// Columns of a panel. Wide enough that a product (128 x 256 x K) dwarfs the call, narrow enough
// that one tile keeps several threads busy and that panel and tile stay in the second-level cache.
constexpr int64_t kPanelColumns = 256;

// How oneDNN is used, decided once. Our own cap (LECTERN_CPU_ISA) caps oneDNN as well.
struct Path {
  bool bf16;
  std::string name;
};

const char* IsaNameOf(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "other";
  }
}

const Path& CurrentPath() {
  static const Path path = [] {
    const Isa isa = CurrentIsa();
    // Refused after oneDNN's first use in the process; then the name below tells what is in use all
    // the same.
    if (isa <= Isa::kAvx2) {
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
    } else if (isa == Isa::kAvx512) {
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_vnni);
    }
    const dnnl::cpu_isa effective = dnnl::get_effective_cpu_isa();
    const bool bf16 =
        effective == dnnl::cpu_isa::avx512_core_bf16 || effective == dnnl::cpu_isa::avx512_core_amx;
    const dnnl_version_t* v = dnnl_version();
    return Path{bf16, "onednn-" + std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
                          std::to_string(v->patch) + (bf16 ? "/bf16/" : "/fp32/") +
                          IsaNameOf(effective)};
  }();
  return path;
}

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// Within its life oneDNN sees one thread, on this thread of ours only: primitives are planned for
// one, and run on one.
class SingleThreaded {
 public:
  SingleThreaded() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThreaded() { omp_set_num_threads(before_); }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  int before_;
};

using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

Type InputType() { return CurrentPath().bf16 ? Type::bf16 : Type::f32; }

dnnl::matmul::primitive_desc Describe(int64_t n, int64_t k, int64_t y_stride, MatmulStore store,
                                      const dnnl::memory::desc* weights) {
  const dnnl::memory::desc x({kMatmulTileRows, k}, InputType(), Tag::ab);
  const dnnl::memory::desc w =
      weights != nullptr ? *weights : dnnl::memory::desc({k, n}, InputType(), Tag::any);
  const dnnl::memory::desc y({kMatmulTileRows, n}, Type::f32, Dims{y_stride, 1});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (store == MatmulStore::kAdd) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attr.set_post_ops(ops);
  }
  return {dnnl::matmul::desc(x, w, y), attr, Engine()};
}

// A product of one fixed shape, ready to run.
struct Product {
  int64_t columns;
  int64_t y_stride;
  MatmulStore store;
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};

// What one thread hands to oneDNN; only the data pointers change from call to call.
struct Arguments {
  dnnl::memory x, w, y, scratch;
};

}  // namespace

struct PackedMatrix::Panels {
  std::vector<WeightRows> segments;
  int64_t n = 0, k = 0;
  hwy::AlignedFreeUniquePtr<uint8_t[]> packed;
  std::vector<int64_t> offsets;  // of each panel in packed, bytes
  int64_t packed_bytes = 0;

  // Products by (columns, y_stride, store), made when first asked for. A handful per matrix.
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<Product>> products;

  int64_t count() const { return (n + kPanelColumns - 1) / kPanelColumns; }
  int64_t columns(int64_t panel) const {
    return std::min(kPanelColumns, n - panel * kPanelColumns);
  }

  const Product& Get(int64_t columns, int64_t y_stride, MatmulStore store) const {
    const std::lock_guard<std::mutex> lock(mutex);
    const dnnl::memory::desc* weights = nullptr;
    dnnl::memory::desc same;
    for (const auto& p : products) {
      if (p->columns != columns) continue;
      if (p->y_stride == y_stride && p->store == store) return *p;
      same = p->description.weights_desc();
      weights = &same;
    }
    const SingleThreaded single;
    auto description = Describe(columns, k, y_stride, store, weights);
    products.push_back(std::make_unique<Product>(
        Product{columns, y_stride, store, description, dnnl::matmul(description)}));
    return *products.back();
  }

  void Pack();
};

// Copies weight rows [first, first + count) over segment borders into [count][k] contiguous.
static void GatherRows(const PackedMatrix::Panels& m, int64_t first, int64_t count, Bf16* out) {
  int64_t segment_first = 0;
  for (const WeightRows& s : m.segments) {
    const int64_t begin = std::max(first, segment_first);
    const int64_t end = std::min(first + count, segment_first + s.rows);
    if (begin < end) {
      std::memcpy(out + (begin - first) * m.k, s.weights + (begin - segment_first) * m.k,
                  static_cast<size_t>((end - begin) * m.k) * sizeof(Bf16));
    }
    segment_first += s.rows;
  }
}

void PackedMatrix::Panels::Pack() {
  for (int64_t p = 0; p < count(); ++p) {
    offsets.push_back(packed_bytes);
    const size_t bytes =
        Get(columns(p), n, MatmulStore::kOverwrite).description.weights_desc().get_size();
    packed_bytes += static_cast<int64_t>((bytes + 63) / 64 * 64);
  }
  packed = hwy::AllocateAligned<uint8_t>(static_cast<size_t>(packed_bytes));
  // Padding inside oneDNN's blocked formats must be zero; reorder writes it.
#pragma omp parallel
  {
    const SingleThreaded single;
    dnnl::stream stream(Engine());
    std::vector<Bf16> rows(static_cast<size_t>(kPanelColumns * k));
    std::vector<float> widened;
#pragma omp for schedule(dynamic, 1)
    for (int64_t p = 0; p < count(); ++p) {
      const int64_t c = columns(p);
      GatherRows(*this, p * kPanelColumns, c, rows.data());
      void* data = rows.data();
      if (!CurrentPath().bf16) {
        widened.resize(rows.size());
        ConvertToFloat(rows.data(), c * k, widened.data());
        data = widened.data();
      }
      // [columns][k] row-major is [k][columns] with the strides of a transpose.
      dnnl::memory from({{k, c}, InputType(), Tag::ba}, Engine(), data);
      dnnl::memory to(Get(c, n, MatmulStore::kOverwrite).description.weights_desc(), Engine(),
                      packed.get() + offsets[static_cast<size_t>(p)]);
      dnnl::reorder(from, to).execute(stream, from, to);
      stream.wait();
    }
  }
}

PackedMatrix::PackedMatrix(std::span<const WeightRows> segments, int64_t k)
    : panels_(std::make_unique<Panels>()) {
  panels_->segments.assign(segments.begin(), segments.end());
  for (const WeightRows& s : segments) panels_->n += s.rows;
  panels_->k = k;
  assert(panels_->n > 0 && k > 0 && k % 2 == 0);
  panels_->Pack();
}

PackedMatrix::PackedMatrix(const Bf16* weights, int64_t n, int64_t k)
    : PackedMatrix(std::vector<WeightRows>{{weights, n}}, k) {}

PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;

int64_t PackedMatrix::n() const { return panels_->n; }
int64_t PackedMatrix::k() const { return panels_->k; }
int64_t PackedMatrix::packed_bytes() const { return panels_->packed_bytes; }
std::span<const WeightRows> PackedMatrix::segments() const { return panels_->segments; }

void MatmulTiles(const PackedMatrix& w, const MatmulTilesParams& params) {
  if (params.tiles == 0) return;
  const PackedMatrix::Panels& m = w.panels();
  assert(params.y_stride >= m.n);
  const Product& full = m.Get(m.columns(0), params.y_stride, params.store);
  const Product& rest = m.Get(m.columns(m.count() - 1), params.y_stride, params.store);
  const bool bf16 = CurrentPath().bf16;

  const int64_t numbers = params.tiles * kMatmulTileRows * m.k;
  std::vector<float> widened;
  if (!bf16) {
    widened.resize(static_cast<size_t>(numbers));
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < params.tiles; ++t) {
      const int64_t at = t * kMatmulTileRows * m.k;
      ConvertToFloat(params.x + at, kMatmulTileRows * m.k, widened.data() + at);
    }
  }
  const auto input = [&](int64_t tile) -> const void* {
    const int64_t at = tile * kMatmulTileRows * m.k;
    if (bf16) return params.x + at;
    return widened.data() + at;
  };

  const int64_t jobs = params.tiles * m.count();
#pragma omp parallel
  {
    const SingleThreaded single;
    static thread_local dnnl::stream stream(Engine());
    static thread_local std::vector<uint8_t> scratch;
    const Product* ready = nullptr;
    Arguments a;
#pragma omp for schedule(dynamic, 1)
    for (int64_t j = 0; j < jobs; ++j) {
      // Tiles run fastest: a panel stays in a core's cache while tiles pass.
      const int64_t panel = j / params.tiles, tile = j % params.tiles;
      const Product* product = panel + 1 == m.count() ? &rest : &full;
      if (product != ready) {
        const auto& d = product->description;
        scratch.resize(std::max(scratch.size(), d.scratchpad_desc().get_size() + 64));
        a = {{d.src_desc(), Engine(), nullptr},
             {d.weights_desc(), Engine(), nullptr},
             {d.dst_desc(), Engine(), nullptr},
             {d.scratchpad_desc(), Engine(), nullptr}};
        a.scratch.set_data_handle(
            reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64));
        ready = product;
      }
      a.x.set_data_handle(const_cast<void*>(input(tile)));
      a.w.set_data_handle(m.packed.get() + m.offsets[static_cast<size_t>(panel)]);
      a.y.set_data_handle(params.y + tile * kMatmulTileRows * params.y_stride +
                          panel * kPanelColumns);
      product->primitive.execute(stream, {{DNNL_ARG_SRC, a.x},
                                          {DNNL_ARG_WEIGHTS, a.w},
                                          {DNNL_ARG_DST, a.y},
                                          {DNNL_ARG_SCRATCHPAD, a.scratch}});
    }
  }
}

bool MatmulUsesBf16() { return CurrentPath().bf16; }

std::string MatmulPathName() { return CurrentPath().name; }

std::string KernelProvenance() {
  return std::string("cpu/") + IsaName(CurrentIsa()) + "/" + MatmulPathName() + "/kernels-" +
         std::to_string(kKernelsVersion);
}

}  // namespace lectern::kernels
