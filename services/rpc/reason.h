// The stable reasons that services add to the engine's (engine/error/reason.h). A reason, once
// released, keeps its spelling and its meaning.
#pragma once

#include <string_view>

namespace lectern::services::reason {

// The request as it was sent. Metadata: `field`, and what was expected of it.
inline constexpr std::string_view kNameInvalid = "NAME_INVALID";
inline constexpr std::string_view kIdInvalid = "ID_INVALID";
inline constexpr std::string_view kFieldInvalid = "FIELD_INVALID";
inline constexpr std::string_view kFieldMissing = "FIELD_MISSING";
inline constexpr std::string_view kFieldMaskInvalid = "FIELD_MASK_INVALID";
inline constexpr std::string_view kTargetMissing = "TARGET_MISSING";
inline constexpr std::string_view kRequestIdInvalid = "REQUEST_ID_INVALID";
inline constexpr std::string_view kUploadHeaderMissing = "UPLOAD_HEADER_MISSING";
inline constexpr std::string_view kUploadHeaderRepeated = "UPLOAD_HEADER_REPEATED";
inline constexpr std::string_view kRequestUnreadable = "REQUEST_UNREADABLE";
inline constexpr std::string_view kMessageTooLarge = "MESSAGE_TOO_LARGE";

// What the request names.
inline constexpr std::string_view kTenantNotFound = "TENANT_NOT_FOUND";
inline constexpr std::string_view kModelNotFound = "MODEL_NOT_FOUND";

// Who calls.
inline constexpr std::string_view kKeyMissing = "KEY_MISSING";
inline constexpr std::string_view kKeyInvalid = "KEY_INVALID";
inline constexpr std::string_view kRoleInsufficient = "ROLE_INSUFFICIENT";

// The keys file and the audit log.
inline constexpr std::string_view kKeysFileMissing = "KEYS_FILE_MISSING";
inline constexpr std::string_view kKeysFileUnreadable = "KEYS_FILE_UNREADABLE";
inline constexpr std::string_view kKeysFileUnwritable = "KEYS_FILE_UNWRITABLE";
inline constexpr std::string_view kKeysFileExposed = "KEYS_FILE_EXPOSED";
inline constexpr std::string_view kKeysFileInvalid = "KEYS_FILE_INVALID";
inline constexpr std::string_view kAuditLogFailed = "AUDIT_LOG_FAILED";

// The state of the service.
inline constexpr std::string_view kQueueFull = "QUEUE_FULL";
inline constexpr std::string_view kServerDraining = "SERVER_DRAINING";
inline constexpr std::string_view kWorkerUnreachable = "WORKER_UNREACHABLE";

// The cluster. Metadata: `group`, where one is meant.
inline constexpr std::string_view kGroupUnreachable = "GROUP_UNREACHABLE";
inline constexpr std::string_view kLeaseExpired = "LEASE_EXPIRED";
inline constexpr std::string_view kNotOwner = "NOT_OWNER";
inline constexpr std::string_view kNoGroup = "NO_GROUP";
inline constexpr std::string_view kGroupTaken = "GROUP_TAKEN";
inline constexpr std::string_view kClusterStoreUnreachable = "CLUSTER_STORE_UNREACHABLE";
inline constexpr std::string_view kClusterStoreRefused = "CLUSTER_STORE_REFUSED";
inline constexpr std::string_view kClusterStoreError = "CLUSTER_STORE_ERROR";
inline constexpr std::string_view kClusterStoreCompacted = "CLUSTER_STORE_COMPACTED";
inline constexpr std::string_view kClusterContended = "CLUSTER_CONTENDED";
inline constexpr std::string_view kClusterMissing = "CLUSTER_MISSING";
inline constexpr std::string_view kCorpusMoving = "CORPUS_MOVING";
inline constexpr std::string_view kCorpusLost = "CORPUS_LOST";
inline constexpr std::string_view kReplicaThere = "REPLICA_THERE";
inline constexpr std::string_view kReplicaUnreachable = "REPLICA_UNREACHABLE";
inline constexpr std::string_view kCorpusChanged = "CORPUS_CHANGED";
inline constexpr std::string_view kGroupDraining = "GROUP_DRAINING";
inline constexpr std::string_view kGroupNotFound = "GROUP_NOT_FOUND";
inline constexpr std::string_view kMoveNeedless = "MOVE_NEEDLESS";
inline constexpr std::string_view kMoveNotFound = "MOVE_NOT_FOUND";
inline constexpr std::string_view kMoveRunning = "MOVE_RUNNING";

// The caller's doing.
inline constexpr std::string_view kCancelled = "CANCELLED";
inline constexpr std::string_view kDeadlineExceeded = "DEADLINE_EXCEEDED";

// Environment at start.
inline constexpr std::string_view kListenFailed = "LISTEN_FAILED";
inline constexpr std::string_view kFlagInvalid = "FLAG_INVALID";

}  // namespace lectern::services::reason
