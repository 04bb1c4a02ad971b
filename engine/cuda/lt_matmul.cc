#include "engine/cuda/lt_matmul.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <vector>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

#define LECTERN_STRING_OF(x) #x
#define LECTERN_STRING(x) LECTERN_STRING_OF(x)
// The library's major version is that of the header we compile against.
constexpr const char* kLibraryNames[] = {
    "libcublasLt.so." LECTERN_STRING(CUBLAS_VER_MAJOR),
    "/usr/local/cuda/lib64/libcublasLt.so." LECTERN_STRING(CUBLAS_VER_MAJOR)};

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
// What the algorithm of tiles is chosen for: enough rows to fill the device.
constexpr int64_t kTypicalTileRows = 4096;
constexpr int64_t kTileRows = 128;
constexpr int kCandidates = 32;

absl::Status LtStatus(cublasStatus_t code, const char* what) {
  if (code == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return Error(absl::StatusCode::kInternal, "DEVICE_FAILED",
               fmt::format("cuBLASLt failed ({}): status {}", what, static_cast<int>(code)));
}

}  // namespace

struct LtMatmul::Library {
  ~Library() {
    if (handle != nullptr) destroy(handle);
    // The library stays loaded: it has state of its own in the driver.
  }
  template <typename F>
  bool Find(void* so, const char* name, F* function) {
    *function = reinterpret_cast<F>(dlsym(so, name));
    return *function != nullptr;
  }
  bool FindAll(void* so) {
    return Find(so, "cublasLtCreate", &create) && Find(so, "cublasLtDestroy", &destroy) &&
           Find(so, "cublasLtGetVersion", &version) &&
           Find(so, "cublasLtMatmulDescCreate", &desc_create) &&
           Find(so, "cublasLtMatmulDescDestroy", &desc_destroy) &&
           Find(so, "cublasLtMatmulDescSetAttribute", &desc_set) &&
           Find(so, "cublasLtMatrixLayoutCreate", &layout_create) &&
           Find(so, "cublasLtMatrixLayoutDestroy", &layout_destroy) &&
           Find(so, "cublasLtMatmulPreferenceCreate", &preference_create) &&
           Find(so, "cublasLtMatmulPreferenceDestroy", &preference_destroy) &&
           Find(so, "cublasLtMatmulPreferenceSetAttribute", &preference_set) &&
           Find(so, "cublasLtMatmulAlgoGetHeuristic", &heuristic) &&
           Find(so, "cublasLtMatmulAlgoConfigGetAttribute", &config_get) &&
           Find(so, "cublasLtMatmulAlgoCheck", &check) && Find(so, "cublasLtMatmul", &matmul);
  }

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) config_get = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) check = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
};

// cuBLASLt counts columns first: its A is W (transposed), its B is x, its D is y transposed.
struct LtMatmul::Plan {
  explicit Plan(Library* library) : library(library) {}
  ~Plan() {
    for (cublasLtMatrixLayout_t layout : {w, x, y}) {
      if (layout != nullptr) library->layout_destroy(layout);
    }
  }
  absl::Status Describe(int64_t rows, int64_t n, int64_t k) {
    LECTERN_RETURN_IF_ERROR(
        LtStatus(library->layout_create(&w, CUDA_R_16BF, k, n, k), "layout of a matrix"));
    LECTERN_RETURN_IF_ERROR(
        LtStatus(library->layout_create(&x, CUDA_R_16BF, k, rows, k), "layout of a matrix"));
    return LtStatus(library->layout_create(&y, CUDA_R_32F, n, rows, n), "layout of a matrix");
  }

  Library* const library;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulAlgo_t algorithm;
};

LtMatmul::LtMatmul() : library_(std::make_unique<Library>()) {}

LtMatmul::~LtMatmul() {
  plans_.clear();
  cudaFree(workspace_);
  if (library_->desc != nullptr) library_->desc_destroy(library_->desc);
}

absl::StatusOr<std::unique_ptr<LtMatmul>> LtMatmul::Create() {
  auto made = std::unique_ptr<LtMatmul>(new LtMatmul());
  Library& library = *made->library_;
  void* so = nullptr;
  std::string why;
  for (const char* name : kLibraryNames) {
    if ((so = dlopen(name, RTLD_NOW | RTLD_LOCAL)) != nullptr) break;
    why += (why.empty() ? "" : "; ") + std::string(dlerror());
  }
  if (so == nullptr || !library.FindAll(so)) {
    return Error(
        absl::StatusCode::kUnavailable, "NO_GPU",
        fmt::format(
            "cuBLASLt, which multiplies on the GPU, cannot be loaded: install the package of "
            "CUDA's cuBLAS, version {}, or add its folder to LD_LIBRARY_PATH ({})",
            CUBLAS_VER_MAJOR, so == nullptr ? why : "it lacks functions of that version"));
  }
  LECTERN_RETURN_IF_ERROR(LtStatus(library.create(&library.handle), "opening"));
  LECTERN_RETURN_IF_ERROR(
      LtStatus(library.desc_create(&library.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product"));
  const cublasOperation_t transposed = CUBLAS_OP_T;
  LECTERN_RETURN_IF_ERROR(LtStatus(
      library.desc_set(library.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
      "a product"));
  if (cudaMalloc(&made->workspace_, kWorkspaceBytes) != cudaSuccess) {
    return Error(absl::StatusCode::kResourceExhausted, "DEVICE_MEMORY_FULL",
                 "the GPU has no memory for the workspace of cuBLASLt");
  }
  return made;
}

std::string LtMatmul::Version() const { return fmt::format("cublaslt-{}", library_->version()); }

absl::Status LtMatmul::Choose(const Product& product, bool tiles, Plan* plan) {
  Library& library = *library_;
  cublasLtMatmulPreference_t preference = nullptr;
  LECTERN_RETURN_IF_ERROR(LtStatus(library.preference_create(&preference), "a preference"));
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, decltype(library.preference_destroy)>
      guard(preference, library.preference_destroy);
  // What does not split k needs no workspace.
  const uint64_t workspace = tiles ? 0 : static_cast<uint64_t>(kWorkspaceBytes);
  LECTERN_RETURN_IF_ERROR(
      LtStatus(library.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                      &workspace, sizeof(workspace)),
               "a preference"));
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found;
  int count = 0;
  Plan typical(&library);
  LECTERN_RETURN_IF_ERROR(
      typical.Describe(tiles ? kTypicalTileRows : product.rows, product.n, product.k));
  LECTERN_RETURN_IF_ERROR(LtStatus(
      library.heuristic(library.handle, library.desc, typical.w, typical.x, typical.y, typical.y,
                        preference, tiles ? kCandidates : 1, found.data(), &count),
      "choosing an algorithm"));
  Plan least(&library);
  if (tiles) LECTERN_RETURN_IF_ERROR(least.Describe(kTileRows, product.n, product.k));
  for (int i = 0; i < count; ++i) {
    if (found[i].state != CUBLAS_STATUS_SUCCESS) continue;
    if (tiles) {
      int32_t splits = 0;
      uint32_t reduction = 0;
      size_t written = 0;
      if (library.config_get(&found[i].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits,
                             sizeof(splits), &written) != CUBLAS_STATUS_SUCCESS ||
          library.config_get(&found[i].algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction,
                             sizeof(reduction), &written) != CUBLAS_STATUS_SUCCESS ||
          splits > 1 || reduction != CUBLASLT_REDUCTION_SCHEME_NONE) {
        continue;
      }
      cublasLtMatmulHeuristicResult_t checked;
      if (library.check(library.handle, library.desc, least.w, least.x, least.y, least.y,
                        &found[i].algo, &checked) != CUBLAS_STATUS_SUCCESS ||
          checked.workspaceSize > 0) {
        continue;
      }
    }
    plan->algorithm = found[i].algo;
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kUnimplemented, "DEVICE_UNSUPPORTED",
               fmt::format("cuBLASLt has no algorithm for a product of [{}][{}] with [{}][{}]",
                           product.rows, product.k, product.n, product.k));
}

absl::StatusOr<const LtMatmul::Plan*> LtMatmul::PlanFor(const Product& product, bool tiles) {
  std::unique_ptr<Plan>& plan = plans_[{product.n, product.k, product.rows, tiles}];
  if (plan != nullptr) return plan.get();
  auto made = std::make_unique<Plan>(library_.get());
  LECTERN_RETURN_IF_ERROR(made->Describe(product.rows, product.n, product.k));
  // One choice for all numbers of tiles: the first plan of the same (n, k) holds it.
  const Plan* same = nullptr;
  for (auto it = plans_.lower_bound({product.n, product.k, 0, false}); it != plans_.end(); ++it) {
    const auto& [n, k, rows, of_tiles] = it->first;
    if (n != product.n || k != product.k) break;
    if (of_tiles && it->second != nullptr) same = it->second.get();
  }
  if (tiles && same != nullptr) {
    made->algorithm = same->algorithm;
  } else {
    LECTERN_RETURN_IF_ERROR(Choose(product, tiles, made.get()));
  }
  plan = std::move(made);
  return plan.get();
}

absl::Status LtMatmul::Run(const Product& product, const Plan& plan, CUstream_st* stream) {
  const float one = 1, beta = product.add ? 1 : 0;
  return LtStatus(library_->matmul(library_->handle, library_->desc, &one, product.w, plan.w,
                                   product.x, plan.x, &beta, product.y, plan.y, product.y, plan.y,
                                   &plan.algorithm, workspace_, kWorkspaceBytes, stream),
                  "multiplying");
}

absl::Status LtMatmul::Tiles(const Product& product, CUstream_st* stream) {
  LECTERN_CHECK(product.rows % kTileRows == 0);
  LECTERN_ASSIGN_OR_RETURN(const Plan* plan, PlanFor(product, /*tiles=*/true));
  return Run(product, *plan, stream);
}

absl::Status LtMatmul::Rows(const Product& product, CUstream_st* stream) {
  LECTERN_ASSIGN_OR_RETURN(const Plan* plan, PlanFor(product, /*tiles=*/false));
  return Run(product, *plan, stream);
}

}  // namespace lectern::engine
