#include "services/worker/engine_flags.h"

#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/process/byte_size.h"
#include "services/process/paths.h"
#include "services/process/server_flags.h"
#include "services/rpc/reason.h"

using lectern::services::ByteSize;

ABSL_FLAG(std::string, data_dir, "",
          "where documents and caches are kept; default: $XDG_DATA_HOME/lectern or "
          "~/.local/share/lectern");
ABSL_FLAG(std::string, model_dir, "",
          "model in the Hugging Face layout; default: the one that comes with Lectern");
ABSL_FLAG(std::string, attention, "sparse",
          "sparse: as the model's configuration says; dense: full attention with the same weights "
          "(caches of the two are not shared)");
ABSL_FLAG(double, adaptive_coverage, 0,
          "of questions that do not say: coverage (0 to 1) below which a token reads twice, then "
          "four times the model's blocks in a layer; 0: never");
ABSL_FLAG(bool, drafts, true,
          "guess at the tokens that an answer copies from the documents and compute several at "
          "once; answers are the same without");
ABSL_FLAG(ByteSize, pool_bytes, (ByteSize{int64_t{2} << 30}),
          "memory for keys and values of blocks in use");
ABSL_FLAG(ByteSize, index_bytes, (ByteSize{int64_t{4} << 30}),
          "memory for the index keys of open contexts");
ABSL_FLAG(
    std::string, device, "auto",
    "what computes: cpu; cuda: the first GPU, which must be a Hopper one; auto: that GPU if it "
    "can serve the model, else the CPU");
ABSL_FLAG(ByteSize, device_memory, (ByteSize{0}),
          "GPU memory for weights, cache and computing; 0: most of what is free");
ABSL_FLAG(
    bool, device_graphs, true,
    "replay decode steps as CUDA graphs; false: launch them call by call, which is slower and "
    "shows each call in a profiler");
ABSL_FLAG(int32_t, threads, 0, "threads that compute; 0: one per core");
ABSL_FLAG(int32_t, queue_limit, 256, "questions that may wait or run at once");
ABSL_FLAG(int32_t, batch_limit, 32, "answers decoded in one step");
ABSL_FLAG(int64_t, context_tokens, 0,
          "tokens of a context, at most; a corpus that is larger gets several, which are asked one "
          "after the other; 0: as many as the model reads, less its reserve for questions and "
          "answers");
ABSL_FLAG(int32_t, prefill_chunk_tokens, 0,
          "document tokens prefilled in one step when nobody waits for an answer; 0: 1024 on the "
          "CPU, 8192 on a GPU");
ABSL_FLAG(ByteSize, request_bytes, (ByteSize{int64_t{4} << 30}),
          "memory that requests may hold between them besides that, such as documents being read");
ABSL_FLAG(ByteSize, scrub_rate, (ByteSize{int64_t{16} << 20}),
          "bytes a second at which everything stored is verified again and again; 0: only what a "
          "question stumbled on");
ABSL_FLAG(
    int32_t, read_timeout_seconds, 30,
    "how long a read of the disk is waited for before whoever needs it is told; 0: as long as "
    "it takes");
ABSL_FLAG(std::string, backup_dir, "",
          "where `lectern backups create` puts backups made while serving; best on another disk; "
          "empty: none can be made");
ABSL_FLAG(ByteSize, backup_rate, (ByteSize{int64_t{64} << 20}),
          "bytes a second at which a backup is copied; 0: as fast as it goes");
ABSL_FLAG(ByteSize, disk_cap, (ByteSize{0}),
          "what the data directory stays under, log and headroom for compaction included; caches "
          "that were not used for the longest time are evicted to make room; 0: no limit");
ABSL_FLAG(ByteSize, document_limit_bytes, (ByteSize{int64_t{1} << 30}),
          "size of the largest document accepted");

namespace lectern::services {
namespace {

absl::StatusOr<engine::AttentionMode> Attention() {
  const std::string value = absl::GetFlag(FLAGS_attention);
  if (value == "sparse") return engine::AttentionMode::kSparse;
  if (value == "dense") return engine::AttentionMode::kDense;
  return engine::InvalidArgument(
      reason::kFlagInvalid, fmt::format("--attention is \"{}\"; it must be sparse or dense", value),
      {{"flag", "attention"}});
}

absl::StatusOr<engine::ComputeDevice> Device() {
  const std::string value = absl::GetFlag(FLAGS_device);
  if (value == "cpu") return engine::ComputeDevice::kCpu;
  if (value == "cuda") return engine::ComputeDevice::kCuda;
  if (value == "auto") return engine::ComputeDevice::kAuto;
  return engine::InvalidArgument(
      reason::kFlagInvalid, fmt::format("--device is \"{}\"; it must be cpu, cuda or auto", value),
      {{"flag", "device"}});
}

absl::StatusOr<std::string> ModelDir() {
  std::string dir = absl::GetFlag(FLAGS_model_dir);
  if (dir.empty()) dir = DefaultModelDir();
  if (!dir.empty()) return dir;
  return engine::Error(
      absl::StatusCode::kNotFound, reason::kFlagInvalid,
      "no models/default was found above this program; name a model folder with --model_dir",
      {{"flag", "model_dir"}});
}

}  // namespace

absl::StatusOr<engine::EngineOptions> EngineOptionsFromFlags() {
  engine::EngineOptions options;
  options.data_dir = absl::GetFlag(FLAGS_data_dir);
  if (options.data_dir.empty()) {
    options.data_dir = DefaultDataDir();
    // A new user's home has no ~/.local/share. What goes wrong here shows when the directory is
    // opened.
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(options.data_dir).parent_path(),
                                        ignored);
  }
  LECTERN_ASSIGN_OR_RETURN(options.model_dir, ModelDir());
  LECTERN_ASSIGN_OR_RETURN(options.attention, Attention());
  LECTERN_ASSIGN_OR_RETURN(options.device, Device());
  options.device_memory_bytes = absl::GetFlag(FLAGS_device_memory).bytes;
  options.device_graphs = absl::GetFlag(FLAGS_device_graphs);
  options.pool_bytes = absl::GetFlag(FLAGS_pool_bytes).bytes;
  options.index_bytes = absl::GetFlag(FLAGS_index_bytes).bytes;
  options.threads = absl::GetFlag(FLAGS_threads);
  options.queue_limit = absl::GetFlag(FLAGS_queue_limit);
  options.context_tokens = absl::GetFlag(FLAGS_context_tokens);
  options.batch_limit = absl::GetFlag(FLAGS_batch_limit);
  options.prefill_chunk_tokens = absl::GetFlag(FLAGS_prefill_chunk_tokens);
  options.document_limit_bytes = absl::GetFlag(FLAGS_document_limit_bytes).bytes;
  options.disk_cap_bytes = absl::GetFlag(FLAGS_disk_cap).bytes;
  options.scrub_bytes_per_second = absl::GetFlag(FLAGS_scrub_rate).bytes;
  const int64_t read_timeout_seconds = absl::GetFlag(FLAGS_read_timeout_seconds);
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("read_timeout_seconds", read_timeout_seconds, 0));
  options.read_timeout_ms = read_timeout_seconds * 1000;
  options.request_bytes = absl::GetFlag(FLAGS_request_bytes).bytes;
  options.adaptive_coverage = absl::GetFlag(FLAGS_adaptive_coverage);
  if (!(options.adaptive_coverage >= 0 && options.adaptive_coverage <= 1)) {
    return engine::InvalidArgument(
        reason::kFlagInvalid,
        fmt::format("--adaptive_coverage is {}; it must be 0 to 1", options.adaptive_coverage),
        {{"flag", "adaptive_coverage"}});
  }
  options.drafts = absl::GetFlag(FLAGS_drafts);
  options.backup_dir = absl::GetFlag(FLAGS_backup_dir);
  options.backup_bytes_per_second = absl::GetFlag(FLAGS_backup_rate).bytes;
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("backup_rate", options.backup_bytes_per_second, 0));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("disk_cap", options.disk_cap_bytes, 0));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("scrub_rate", options.scrub_bytes_per_second, 0));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("request_bytes", options.request_bytes, 1));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("pool_bytes", options.pool_bytes, 1));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("index_bytes", options.index_bytes, 1));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("device_memory", options.device_memory_bytes, 0));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("threads", options.threads, 0));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("queue_limit", options.queue_limit, 1));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("batch_limit", options.batch_limit, 1));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("prefill_chunk_tokens", options.prefill_chunk_tokens, 0));
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("document_limit_bytes", options.document_limit_bytes, 1));
  return options;
}

std::vector<LogField> ReadyFields(const std::string& address, const std::string& metrics,
                                  const engine::ModelInfo& model,
                                  const engine::EngineOptions& options) {
  return {{"address", address},
          {"metrics", metrics},
          {"model", model.display_name},
          {"backend", model.backend},
          {"device", model.device.empty() ? "cpu" : model.device},
          {"device_note", model.device_note},
          {"device_context_tokens", model.device_context_tokens},
          {"attention", model.attention},
          {"context_limit_tokens", model.context_limit_tokens},
          {"data_dir", options.data_dir}};
}

}  // namespace lectern::services
