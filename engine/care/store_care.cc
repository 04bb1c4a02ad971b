#include "engine/care/store_care.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/care/recompute_policy.h"

namespace lectern::engine {
namespace {

// Between two walks of everything.
constexpr std::chrono::hours kRest(1);
// Between two looks at rebuilds that wait, or at how the disk is doing. A rebuild that failed is
// begun again after twice that, four times, ...
constexpr std::chrono::seconds kRetry(2);
// Of a suspected corpus: somebody waits for it.
constexpr int64_t kSuspectBytesPerSecond = int64_t{256} << 20;

}  // namespace

StoreCare::StoreCare(const Surroundings& surroundings)
    : around_(surroundings), thread_([this] { Loop(); }) {}

StoreCare::~StoreCare() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void StoreCare::Suspect(uint64_t corpus_uid) {
  {
    std::lock_guard lock(mutex_);
    if (std::find(suspects_.begin(), suspects_.end(), corpus_uid) != suspects_.end()) return;
    suspects_.push_back(corpus_uid);
  }
  wake_.notify_all();
}

StoreCare::Counters StoreCare::counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

void StoreCare::Loop() {
  Clock::time_point next_walk = Clock::now();
  FindQuarantined();
  while (!stop_) {
    uint64_t suspect = 0;
    {
      std::unique_lock lock(mutex_);
      const auto due = [&] {
        return stop_ || !suspects_.empty() ||
               (around_.bytes_per_second > 0 && Clock::now() >= next_walk);
      };
      // Woken now and then where rebuilds wait, which wait for others in turn.
      wake_.wait_for(lock, kRetry, due);
      if (stop_) return;
      if (!suspects_.empty()) {
        suspect = suspects_.front();
        suspects_.pop_front();
      }
    }
    Tend();
    if (suspect != 0) {
      Walk(suspect);
    } else if (around_.bytes_per_second > 0 && Clock::now() >= next_walk) {
      Walk(0);
      next_walk = Clock::now() + kRest;
    }
  }
}

void StoreCare::FindQuarantined() {
  storage::Catalog& catalog = around_.store->catalog();
  // Lists that cannot be read are damage that the walk tells.
  const auto for_each = [](const auto& list, const auto& visit) {
    storage::PageRequest page = {.size = storage::kMaxPageSize};
    do {
      const auto found = list(page);
      if (!found.ok()) return;
      for (const auto& item : found->items) visit(item);
      page.token = found->next_token;
    } while (!page.token.empty());
  };
  for_each([&](const auto& page) { return catalog.ListTenants(page); },
           [&](const storage::Tenant& tenant) {
             for_each(
                 [&](const auto& page) { return catalog.ListCorpora(tenant.uid, page); },
                 [&](const storage::Corpus& corpus) {
                   for_each(
                       [&](const auto& page) { return catalog.ListGenerations(corpus.uid, page); },
                       [&](const storage::Generation& generation) {
                         if (generation.residency != storage::Residency::kQuarantined) return;
                         std::lock_guard lock(mutex_);
                         to_rebuild_.try_emplace(generation.uid);
                       });
                 });
           });
}

void StoreCare::Walk(uint64_t corpus_uid) {
  const int64_t rate = corpus_uid == 0 ? around_.bytes_per_second
                                       : std::max(around_.bytes_per_second, kSuspectBytesPerSecond);
  const absl::StatusOr<storage::ScrubReport> report = around_.store->Scrub(
      {.bytes_per_second = static_cast<uint64_t>(rate),
       .corpus_uid = corpus_uid,
       // A walk of everything makes way for what somebody waits for, and begins anew after it.
       .stop =
           [this, corpus_uid] {
             if (stop_) return true;
             Tend();
             std::lock_guard lock(mutex_);
             return corpus_uid == 0 && !suspects_.empty();
           },
       .found = [this](const storage::Damage& damage) { Treat(damage); }});
  if (!report.ok()) return;  // the disk fails: the next walk tries again
  std::lock_guard lock(mutex_);
  counters_.records += static_cast<int64_t>(report->records);
  counters_.bytes += static_cast<int64_t>(report->bytes);
  counters_.walks += corpus_uid == 0 && report->complete;
}

void StoreCare::Treat(const storage::Damage& damage) {
  using Kind = storage::Damage::Kind;
  {
    std::lock_guard lock(mutex_);
    if (known_.insert(damage.what).second) ++counters_.damages[DamageKindName(damage.kind)];
  }
  storage::Catalog& catalog = around_.store->catalog();
  if (damage.kind == Kind::kBlocks) {
    const auto quarantined = catalog.QuarantineBlocks(damage.blocks);
    if (!quarantined.ok()) return;  // met again by the next walk
    {
      std::lock_guard lock(mutex_);
      counters_.quarantined += static_cast<int64_t>(quarantined->size());
    }
    Rebuild(*quarantined);
  } else if (damage.kind == Kind::kLayout) {
    const auto quarantined = catalog.QuarantineGeneration(damage.generation_uid);
    if (!quarantined.ok()) return;
    {
      std::lock_guard lock(mutex_);
      ++counters_.quarantined;
    }
    Rebuild({*quarantined});
  } else if (damage.kind == Kind::kHash) {
    catalog.DropDamagedHashes().IgnoreError();
  }
}

void StoreCare::Tend() {
  if (Clock::now() < next_tend_) return;
  next_tend_ = Clock::now() + kRetry;
  RetryRebuilds();
  WeighReads();
}

void StoreCare::WeighReads() {
  for (const ReadReport& report : around_.reads->Take()) WeighReport(report);
}

void StoreCare::WeighReport(const ReadReport& report) {
  storage::Catalog& catalog = around_.store->catalog();
  const auto cached = catalog.CachedGenerations();
  if (!cached.ok()) return;  // the next report comes
  std::set<uint64_t> lineages;
  for (const storage::Segment& segment : report.segments) lineages.insert(segment.lineage);
  std::vector<storage::Generation> given_up;
  for (const storage::CachedGeneration& candidate : *cached) {
    const bool concerned =
        std::any_of(candidate.lineages.begin(), candidate.lineages.end(),
                    [&](const auto& lineage) { return lineages.contains(lineage.uid); });
    if (!concerned) continue;
    Experience& experience = experience_[candidate.uid];
    experience.failures = report.failed.empty() ? 0 : experience.failures + 1;
    if (Clock::now() < experience.not_before) continue;
    const auto generation = catalog.GetGeneration(candidate.uid);
    if (!generation.ok()) continue;
    int64_t tokens = 0;
    for (const auto& context : generation->contexts) {
      tokens += static_cast<int64_t>(context.token_count);
    }
    const Recompute verdict = Weigh(report.waited_seconds, experience.failures, tokens,
                                    around_.prefill_rate->tokens_per_second());
    if (verdict == Recompute::kNo || !CanReadDocuments(*generation)) continue;
    experience = {.failures = 0, .not_before = Clock::now() + kRecomputeRest};
    // What could not be read, or all that was slow; what comes before it is not computed again.
    for (const storage::Segment& blocks :
         verdict == Recompute::kUnreadable ? report.failed : report.segments) {
      const auto quarantined = catalog.QuarantineBlocks(blocks);
      if (!quarantined.ok()) continue;
      std::lock_guard lock(mutex_);
      counters_.recomputed[verdict == Recompute::kSlow ? "slow" : "unreadable"] +=
          static_cast<int64_t>(quarantined->size());
      given_up.insert(given_up.end(), quarantined->begin(), quarantined->end());
    }
  }
  std::erase_if(experience_, [&](const auto& entry) {
    const bool is_cached = std::any_of(cached->begin(), cached->end(), [&](const auto& candidate) {
      return candidate.uid == entry.first;
    });
    return Clock::now() >= entry.second.not_before && (entry.second.failures == 0 || !is_cached);
  });
  Rebuild(given_up);
}

bool StoreCare::CanReadDocuments(const storage::Generation& generation) const {
  storage::Catalog& catalog = around_.store->catalog();
  for (const storage::GenerationDocument& part : generation.documents) {
    const auto document = catalog.GetDocumentByUid(part.uid);
    if (!document.ok()) return false;
    if (!catalog.ReadDocument(*document, 0, document->byte_length).ok()) return false;
  }
  return true;
}

void StoreCare::Rebuild(const std::vector<storage::Generation>& generations) {
  {
    std::lock_guard lock(mutex_);
    for (const storage::Generation& generation : generations) {
      to_rebuild_.try_emplace(generation.uid);
    }
  }
  RetryRebuilds();
}

void StoreCare::RetryRebuilds() {
  std::map<uint64_t, Wanted> waiting;
  {
    std::lock_guard lock(mutex_);
    waiting.swap(to_rebuild_);
  }
  for (auto& [uid, wanted] : waiting) {
    if (!RetryRebuild(uid, &wanted)) continue;
    std::lock_guard lock(mutex_);
    to_rebuild_.emplace(uid, wanted);
  }
}

bool StoreCare::RetryRebuild(uint64_t generation_uid, Wanted* wanted) {
  storage::Catalog& catalog = around_.store->catalog();
  const absl::StatusOr<storage::Generation> generation = catalog.GetGeneration(generation_uid);
  if (absl::IsNotFound(generation.status())) return false;
  if (!generation.ok()) return true;
  if (generation->residency == storage::Residency::kComplete) return false;
  if (Clock::now() < wanted->not_before) return true;
  if (wanted->operation_uid != 0) {
    const auto last = catalog.GetOperation(wanted->operation_uid);
    if (last.ok() && last->state == storage::OperationState::kRunning) return true;
    // Somebody did not want it, or it is not to be had.
    if (last.ok() && last->state == storage::OperationState::kCancelled) return false;
    if (wanted->attempts >= kRebuildAttempts) return false;
  }
  const absl::StatusOr<storage::Corpus> corpus = catalog.GetCorpusByUid(generation->corpus_uid);
  if (absl::IsNotFound(corpus.status())) return false;
  if (!corpus.ok()) return true;
  const auto begun = around_.ingest->BeginRebuild(*corpus, generation_uid);
  if (begun.ok()) {
    wanted->operation_uid = begun->uid;
    wanted->not_before = Clock::now() + kRetry * (1 << ++wanted->attempts);
    std::lock_guard lock(mutex_);
    ++counters_.rebuilds;
    return true;
  }
  // Another ingest of the corpus runs, or there is no room yet.
  return absl::IsFailedPrecondition(begun.status()) || absl::IsUnavailable(begun.status()) ||
         absl::IsResourceExhausted(begun.status());
}

}  // namespace lectern::engine
