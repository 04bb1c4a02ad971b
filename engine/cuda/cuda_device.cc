#include "engine/cuda/cuda_device.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "engine/cuda/cuda_backend.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

// Changes with whatever changes the bits that our kernels leave in a cache.
constexpr int kKernelsVersion = 2;

absl::Status NoGpu(std::string_view message) {
  return Error(absl::StatusCode::kUnavailable, "NO_GPU", message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice() { return CudaDevice::Open(); }

absl::Status CudaDevice::Result(int code, const char* what) {
  if (code == cudaSuccess) return absl::OkStatus();
  const auto error = static_cast<cudaError_t>(code);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is not sticky: the device can go on
    return Error(absl::StatusCode::kResourceExhausted, "DEVICE_MEMORY_FULL",
                 fmt::format("the GPU has no memory left ({}): lower --device_memory, so that more "
                             "is left beside the cache",
                             what));
  }
  return Error(absl::StatusCode::kInternal, "DEVICE_FAILED",
               fmt::format("the GPU failed ({}): {}", what, cudaGetErrorString(error)));
}

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open() {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || devices == 0) {
    // Also what CUDA says where there is no driver at all.
    const std::string_view why = found == cudaErrorInsufficientDriver
                                     ? "there is no NVIDIA driver, or it is older than this CUDA"
                                 : found != cudaSuccess ? cudaGetErrorString(found)
                                                        : "there is none";
    return NoGpu(fmt::format("no GPU can be used here: {}", why));
  }
  auto device = std::unique_ptr<CudaDevice>(new CudaDevice());
  cudaDeviceProp properties;
  LECTERN_RETURN_IF_ERROR(Result(cudaGetDeviceProperties(&properties, 0), "its properties"));
  device->name_ = properties.name;
  device->processors_ = properties.multiProcessorCount;
  if (properties.major != 9 || properties.minor != 0) {
    return NoGpu(
        fmt::format("{} has compute capability {}.{}: the kernels are made for 9.0 (Hopper)",
                    device->name_, properties.major, properties.minor));
  }
  LECTERN_RETURN_IF_ERROR(Result(cudaSetDevice(0), "opening it"));
  for (cudaStream_t* stream : {&device->stream_, &device->back_stream_}) {
    LECTERN_RETURN_IF_ERROR(
        Result(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "a stream"));
  }
  for (cudaEvent_t* event :
       {&device->computed_, &device->copied_, &device->marks_[0], &device->marks_[1]}) {
    LECTERN_RETURN_IF_ERROR(
        Result(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "an event"));
  }
  LECTERN_ASSIGN_OR_RETURN(device->matmul_, LtMatmul::Create());
  return device;
}

CudaDevice::~CudaDevice() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (back_stream_ != nullptr) cudaStreamSynchronize(back_stream_);
  graphs_.Clear();
  matmul_.reset();
  cudaFree(index_workspace_);
  for (cudaEvent_t event : {computed_, copied_, marks_[0], marks_[1]}) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  for (cudaStream_t stream : {stream_, back_stream_}) {
    if (stream != nullptr) cudaStreamDestroy(stream);
  }
}

std::string CudaDevice::Provenance() const {
  return fmt::format("cuda/sm_90/{}/kernels-{}", matmul_->Version(), kKernelsVersion);
}

int64_t CudaDevice::FreeBytes() const {
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? static_cast<int64_t>(free) : 0;
}

absl::StatusOr<void*> CudaDevice::Allocate(int64_t bytes) {
  void* memory = nullptr;
  LECTERN_RETURN_IF_ERROR(Result(cudaMalloc(&memory, static_cast<size_t>(bytes)), "allocating"));
  return memory;
}

// Waits for everything on the device.
void CudaDevice::Free(void* memory) {
  graphs_.Clear();  // some may have been captured with it
  cudaFree(memory);
}

void* CudaDevice::AllocatePinned(int64_t bytes) {
  void* memory = nullptr;
  if (const cudaError_t error = cudaMallocHost(&memory, static_cast<size_t>(bytes));
      error != cudaSuccess) {
    std::fprintf(stderr, "cannot pin %lld bytes of host memory: %s\n",
                 static_cast<long long>(bytes), cudaGetErrorString(error));
    std::abort();
  }
  return memory;
}

void CudaDevice::FreePinned(void* memory) {
  graphs_.Clear();
  cudaFreeHost(memory);
}

absl::Status CudaDevice::ToDevice(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kToDevice, to, from, bytes})) return absl::OkStatus();
  return Result(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_),
      "copying to it");
}

absl::Status CudaDevice::ToHost(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kToHost, to, from, bytes})) return absl::OkStatus();
  return Result(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
      "copying from it");
}

absl::Status CudaDevice::ToHostMeanwhile(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kToHostMeanwhile, to, from, bytes})) return absl::OkStatus();
  // The wait is for the event as it is now; it may be recorded again at once.
  LECTERN_RETURN_IF_ERROR(Result(cudaEventRecord(computed_, stream_), "an event"));
  LECTERN_RETURN_IF_ERROR(
      Result(cudaStreamWaitEvent(back_stream_, computed_, 0), "waiting for an event"));
  forked_ = true;
  return Result(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, back_stream_),
      "copying from it");
}

absl::Status CudaDevice::WithinDevice(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kWithinDevice, to, from, bytes})) return absl::OkStatus();
  return Result(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream_),
      "copying within it");
}

absl::Status CudaDevice::Clear(void* memory, int64_t bytes) {
  if (Hold(ClearCall{memory, bytes})) return absl::OkStatus();
  return Result(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), stream_), "clearing");
}

absl::Status CudaDevice::Mark(int mark) {
  return Result(cudaEventRecord(marks_[mark], stream_), "an event");
}

absl::Status CudaDevice::WaitMark(int mark) {
  return Result(cudaEventSynchronize(marks_[mark]), "waiting for an event");
}

absl::Status CudaDevice::Synchronize() {
  const absl::Status computed = Result(cudaStreamSynchronize(stream_), "computing");
  const absl::Status copied = Result(cudaStreamSynchronize(back_stream_), "copying from it");
  return computed.ok() ? copied : computed;
}

absl::Status CudaDevice::MultiplyTiles(const Product& product) {
  return matmul_->Tiles(product, stream_);
}

absl::Status CudaDevice::MultiplyRows(const Product& product) {
  if (Hold(RowsCall{product})) return absl::OkStatus();
  return matmul_->Rows(product, stream_);
}

absl::Status CudaDevice::Embed(const kernels::EmbedCudaParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::EmbedCuda(params, stream_), "embedding");
}

absl::Status CudaDevice::RmsNorm(const kernels::RmsNormCudaParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::RmsNormCuda(params, stream_), "norm");
}

absl::Status CudaDevice::HeadNormRope(const kernels::HeadNormRopeCudaParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::HeadNormRopeCuda(params, stream_), "splitting heads");
}

absl::Status CudaDevice::SwiGlu(const kernels::SwiGluCudaParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::SwiGluCuda(params, stream_), "activation");
}

absl::Status CudaDevice::PrefillIndex(const kernels::PrefillIndexParams& given) {
  kernels::PrefillIndexParams params = given;
  params.splits = kernels::PrefillIndexSplits(params, processors_);
  const int64_t bytes = kernels::PrefillIndexWorkspaceBytes(params);
  if (bytes > index_workspace_bytes_) {
    cudaFree(index_workspace_);  // waits for who still uses it
    index_workspace_ = nullptr;
    index_workspace_bytes_ = 0;
    LECTERN_ASSIGN_OR_RETURN(index_workspace_, Allocate(bytes));
    index_workspace_bytes_ = bytes;
  }
  params.workspace = index_workspace_;
  return Result(kernels::PrefillIndex(params, stream_), "selecting blocks");
}

absl::Status CudaDevice::PrefillAttention(const kernels::PrefillAttentionParams& params) {
  return Result(kernels::PrefillAttention(params, stream_), "attending");
}

absl::Status CudaDevice::DecodeScore(const kernels::DecodeScoreParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::DecodeScore(params, stream_), "scoring blocks");
}

absl::Status CudaDevice::DecodeAttention(const kernels::DecodeAttentionParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::DecodeAttention(params, stream_), "attending");
}

absl::Status CudaDevice::IndexMass(const kernels::IndexMassCudaParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::IndexMassCuda(params, stream_), "weighing blocks");
}

absl::Status CudaDevice::WidenSelection(const kernels::WidenSelectionCudaParams& params) {
  if (Hold(params)) return absl::OkStatus();
  return Result(kernels::WidenSelectionCuda(params, stream_), "widening selections");
}

absl::Status CudaDevice::CopyKvPages(const kernels::KvPagesCudaParams& params) {
  return Result(kernels::CopyKvPagesCuda(params, stream_), "placing keys and values");
}

absl::Status CudaDevice::CopyIndexPages(const kernels::IndexPagesCudaParams& params) {
  return Result(kernels::CopyIndexPagesCuda(params, stream_), "placing index keys");
}

absl::Status CudaDevice::MakeHeld() {
  forked_ = false;
  LECTERN_RETURN_IF_ERROR(MakeCalls(this, held_));
  if (!forked_) return absl::OkStatus();
  LECTERN_RETURN_IF_ERROR(Result(cudaEventRecord(copied_, back_stream_), "an event"));
  return Result(cudaStreamWaitEvent(stream_, copied_, 0), "waiting for an event");
}

absl::StatusOr<bool> CudaDevice::Replayable(const std::function<absl::Status()>& enqueue) {
  held_.clear();
  holding_ = true;
  const absl::Status enqueued = enqueue();
  holding_ = false;
  LECTERN_RETURN_IF_ERROR(enqueued);
  return graphs_.Run(held_, stream_, [this] { return MakeHeld(); });
}

}  // namespace lectern::engine
