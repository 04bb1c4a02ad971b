#include "services/cluster/replicas.h"

#include <fmt/format.h>

#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {

void Replicas::Start() {
  sync_.Start();
  follower_.Start();
}

void Replicas::Stop() {
  sync_.Stop();
  follower_.Stop();
}

absl::Status Replicas::AgreeOnJoining() {
  LECTERN_RETURN_IF_ERROR(follower_.AgreeOnJoining());
  std::map<std::string, int64_t> lost;
  for (const ReplicaRecord& record : directory_.Replicas()) {
    const std::optional<Placement> placed = directory_.Known(record.name);
    if (!record.ready || !placed || placed->deleted || placed->group != member_.group().name) {
      continue;
    }
    const absl::Status here = engine_.GetCorpus(record.name).status();
    if (here.ok() || follower_.IsArriving(record.name)) continue;
    if (here.code() != absl::StatusCode::kNotFound) return here;
    Log(LogLevel::kError, "corpus_lost",
        {{"tenant", record.name.tenant},
         {"corpus", record.name.corpus},
         {"replica", record.group}});
    lost[TableKey(record.name)] = placed->epoch;
  }
  const std::lock_guard lock(mutex_);
  lost_ = std::move(lost);
  return absl::OkStatus();
}

absl::Status Replicas::IsHere(const engine::CorpusName& name) const {
  if (follower_.IsArriving(name)) {
    return engine::Error(absl::StatusCode::kUnavailable, reason::kCorpusMoving,
                         fmt::format("the second copy of the corpus \"{}\" takes the place of the "
                                     "first, which was lost; try again",
                                     name.corpus),
                         {{"corpus", name.corpus}, {"done", "false"}});
  }
  const std::lock_guard lock(mutex_);
  const auto lost = lost_.find(TableKey(name));
  if (lost == lost_.end()) return absl::OkStatus();
  const std::optional<Placement> placed = directory_.Known(name);
  if (!placed || placed->epoch != lost->second) return absl::OkStatus();
  return engine::Error(absl::StatusCode::kUnavailable, reason::kCorpusLost,
                       fmt::format("this group has lost its copy of the corpus \"{}\", and the "
                                   "second one is about to take its place; try again",
                                   name.corpus),
                       {{"corpus", name.corpus}, {"done", "false"}});
}

}  // namespace lectern::services
