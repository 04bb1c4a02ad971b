// Named places at which a test build can be told to die, to fail or to stall. One mechanism for all
// rooms that write: storage, and the engine's ingest above it.
//
// Built with the CMake option LECTERN_FAIL_POINTS (on unless the build type is Release); without it
// the macros are empty and the environment is not looked at. What happens where is said once, by
// the environment variable LECTERN_FAIL_POINTS, a comma-separated list of NAME=ACTION:
//   kill[@N]        SIGKILL to the own process when the place is reached the N-th time (default 1)
//   error[@N]       the step fails with kUnavailable, once
//   sleep:MS[@N]    the step takes MS milliseconds longer, once
// With @N+ instead of @N, the N-th time and each time after it.
// LECTERN_FAIL_POINT_TRACE=FD writes "@NAME\n" to that descriptor each time a place is reached.
//
// Names are "what.state": a step about to be taken reads as a noun (commit.directory), one that was
// taken as a participle (commit.published); after the latter the caller may not be told of an
// error, so these places cannot fail. Thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"

namespace lectern::storage {

// One line per place: enumerator, name, whether the step can fail there.
#define LECTERN_FAIL_POINT_TABLE(X)                       \
  X(kOpenLoadEmptied, "open.load_emptied", true)          \
  X(kOpenDatabaseOpened, "open.database_opened", true)    \
  X(kOpenInfoWritten, "open.info_written", true)          \
  X(kOpenFormat, "open.format", true)                     \
  X(kOpenUploadsPurged, "open.uploads_purged", true)      \
  X(kOpenOrphansDeleted, "open.orphans_deleted", true)    \
  X(kOpenRecovered, "open.recovered", true)               \
  X(kCorpusCreate, "corpus.create", true)                 \
  X(kUploadBegin, "upload.begin", true)                   \
  X(kUploadPiece, "upload.piece", true)                   \
  X(kUploadCommit, "upload.commit", true)                 \
  X(kUploadCommitted, "upload.committed", false)          \
  X(kOperationCreate, "operation.create", true)           \
  X(kIngestPlanned, "ingest.planned", true)               \
  X(kIngestReferences, "ingest.references", true)         \
  X(kIngestBegun, "ingest.begun", false)                  \
  X(kLayoutPiece, "layout.piece", true)                   \
  X(kLayoutWritten, "layout.written", true)               \
  X(kIngestStarted, "ingest.started", true)               \
  X(kIngestStepComputed, "ingest.step_computed", true)    \
  X(kIngestPublished, "ingest.published", false)          \
  X(kCommitSmallEncoded, "commit.small_encoded", true)    \
  X(kCommitBulkBegun, "commit.bulk_begun", true)          \
  X(kCommitBulkFileBuilt, "commit.bulk_file_built", true) \
  X(kCommitBulkIngest, "commit.bulk_ingest", true)        \
  X(kCommitBulkIngested, "commit.bulk_ingested", true)    \
  X(kCommitDirectory, "commit.directory", true)           \
  X(kCommitPublished, "commit.published", false)          \
  X(kManifest, "publish.manifest", true)                  \
  X(kManifestPublished, "publish.published", false)       \
  X(kBlockRead, "block.read", true)                       \
  X(kTurnCommit, "turn.commit", true)                     \
  X(kTurnCommitted, "turn.committed", false)              \
  X(kLogWrite, "log.write", true)                         \
  X(kLogWritten, "log.written", false)                    \
  X(kWatermarkRaised, "log.watermark_raised", false)      \
  X(kFlushBegun, "flush.begun", false)                    \
  X(kFlushed, "flush.flushed", false)                     \
  X(kCompactionBegun, "compaction.begun", false)          \
  X(kCompacted, "compaction.compacted", false)            \
  X(kSessionDelete, "session.delete", true)               \
  X(kDocumentDelete, "document.delete", true)             \
  X(kGenerationDelete, "generation.delete", true)         \
  X(kEvict, "generation.evict", true)                     \
  X(kEvicted, "generation.evicted", false)                \
  X(kQuarantine, "generation.quarantine", true)           \
  X(kCorpusDelete, "corpus.delete", true)                 \
  X(kCorpusDeleted, "corpus.deleted", false)              \
  X(kImportBegin, "import.begin", true)                   \
  X(kImportPiece, "import.piece", true)                   \
  X(kImportBlocks, "import.blocks", true)                 \
  X(kImportPublish, "import.publish", true)               \
  X(kImportPublished, "import.published", false)          \
  X(kImportAbandon, "import.abandon", true)               \
  X(kImportKeep, "import.keep", true)                     \
  X(kImportKept, "import.kept", false)                    \
  X(kCollectionBegun, "collection.begun", true)           \
  X(kPurge, "collection.purge", true)                     \
  X(kPurged, "collection.purged", false)                  \
  X(kReclaimDropFiles, "collection.drop_files", true)     \
  X(kReclaimCompact, "collection.compact", true)          \
  X(kReclaimForget, "collection.forget", true)

enum class FailPoint : uint8_t {
#define LECTERN_FAIL_POINT_ENUMERATOR(enumerator, name, can_fail) enumerator,
  LECTERN_FAIL_POINT_TABLE(LECTERN_FAIL_POINT_ENUMERATOR)
#undef LECTERN_FAIL_POINT_ENUMERATOR
};

struct FailPointInfo {
  FailPoint point;
  std::string_view name;
  bool can_fail;
};
std::span<const FailPointInfo> AllFailPoints();

// Whether this build has them.
#ifdef LECTERN_FAIL_POINTS
inline constexpr bool kFailPointsBuilt = true;
#else
inline constexpr bool kFailPointsBuilt = false;
#endif

// Replaces what the environment said, within this process. kInvalidArgument: what cannot be parsed,
// a name that there is not, `error` where the step cannot fail.
absl::Status ArmFailPoints(std::string_view specification);
// How often a place was reached since the process began.
uint64_t FailPointHits(FailPoint point);

// Through the macros only. OK unless the place is armed with `error`.
absl::Status ReachFailPoint(FailPoint point);

}  // namespace lectern::storage

#ifdef LECTERN_FAIL_POINTS
// In a function that returns absl::Status or absl::StatusOr: returns the error if one is asked for.
#define LECTERN_FAIL_POINT(point)                                                 \
  do {                                                                            \
    absl::Status reached =                                                        \
        ::lectern::storage::ReachFailPoint(::lectern::storage::FailPoint::point); \
    if (!reached.ok()) return reached;                                            \
  } while (false)
// Where no error can be told.
#define LECTERN_KILL_POINT(point) \
  ::lectern::storage::ReachFailPoint(::lectern::storage::FailPoint::point).IgnoreError()
#else
#define LECTERN_FAIL_POINT(point) static_cast<void>(0)
#define LECTERN_KILL_POINT(point) static_cast<void>(0)
#endif
