// Matrix products on the GPU by cuBLASLt:  y = x W^T (+ y),  x [rows][k] and W [n][k] bf16, y
// [rows][n] fp32, sums in fp32.
//
// cuBLASLt is loaded when a GPU is asked for (dlopen): a program linked with it would not start on
// a machine without it, and half a gigabyte of it belongs to no static binary.
//
// Tiles (rows a multiple of 128) keep the numeric contract: for each (n, k) one algorithm is chosen
// once, without splitting k, and used for every number of tiles, so that a row's bits depend on
// that row alone. Rows (decode) may use another algorithm for each number of rows.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/device/device.h"

namespace lectern::engine {

class LtMatmul {
 public:
  // UNAVAILABLE NO_GPU: no cuBLASLt.
  static absl::StatusOr<std::unique_ptr<LtMatmul>> Create();
  ~LtMatmul();

  using Product = Device::Product;

  // REQUIRES: rows a multiple of 128. Launches on `stream`.
  absl::Status Tiles(const Product& product, CUstream_st* stream);
  absl::Status Rows(const Product& product, CUstream_st* stream);

  // e.g. "cublaslt-130000", for the provenance.
  std::string Version() const;

 private:
  struct Library;
  struct Plan;
  LtMatmul();
  absl::StatusOr<const Plan*> PlanFor(const Product& product, bool tiles);
  absl::Status Choose(const Product& product, bool tiles, Plan* plan);
  absl::Status Run(const Product& product, const Plan& plan, CUstream_st* stream);

  std::unique_ptr<Library> library_;
  void* workspace_ = nullptr;  // on the device
  // By (n, k, rows, tiles).
  std::map<std::tuple<int64_t, int64_t, int64_t, bool>, std::unique_ptr<Plan>> plans_;
};

}  // namespace lectern::engine
