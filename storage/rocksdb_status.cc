#include "storage/rocksdb_status.h"

#include <cerrno>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "storage/recoverable_file_system.h"

namespace lectern::storage {
namespace {

bool IsOutOfSpace(const rocksdb::Status& status) {
  return status.IsIOError() &&
         (Mentions(status.ToString(), ENOSPC) || Mentions(status.ToString(), EDQUOT));
}

}  // namespace

bool Mentions(std::string_view message, int error_number) {
  return message.find(std::strerror(error_number)) != std::string_view::npos;
}

absl::Status ToStatus(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = fmt::format("{}: {}", doing, status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (IsOutOfSpace(status)) {
    return absl::ResourceExhaustedError(
        fmt::format("{}. The disk is full: free space on it or raise its quota; writing goes on "
                    "without a restart",
                    message));
  }
  if (status.subcode() == rocksdb::Status::kSpaceLimit || status.IsCompactionTooLarge()) {
    return absl::ResourceExhaustedError(fmt::format(
        "{}. The disk cap leaves no room for it: raise the cap or delete corpora", message));
  }
  if (status.IsIOError() && message.find(kReadTimedOut) != std::string::npos) {
    return absl::DeadlineExceededError(message);
  }
  if (status.IsCorruption()) return absl::DataLossError(message);
  if (status.IsIOError()) {
    if (Mentions(message, EACCES) || Mentions(message, EROFS) || Mentions(message, EPERM)) {
      return absl::PermissionDeniedError(message);
    }
    return absl::UnavailableError(message);
  }
  if (status.IsBusy() || status.IsTimedOut() || status.IsTryAgain() || status.IsAborted() ||
      status.IsShutdownInProgress() || status.IsIncomplete()) {
    return absl::UnavailableError(message);
  }
  if (status.IsInvalidArgument()) return absl::InvalidArgumentError(message);
  return absl::InternalError(message);
}

}  // namespace lectern::storage
