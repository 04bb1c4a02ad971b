#include "engine/care/store_care.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace lectern::engine {
namespace {

// Between two walks of everything.
constexpr std::chrono::hours kRest(1);
// Between two attempts to begin a rebuild that an ingest was in the way of.
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
  using Clock = std::chrono::steady_clock;
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
    RetryRebuilds();
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
                         to_rebuild_.insert(generation.uid);
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
    for (const storage::Generation& generation : *quarantined) Rebuild(generation);
  } else if (damage.kind == Kind::kLayout) {
    const auto quarantined = catalog.QuarantineGeneration(damage.generation_uid);
    if (quarantined.ok()) Rebuild(*quarantined);
  } else if (damage.kind == Kind::kHash) {
    catalog.DropDamagedHashes().IgnoreError();
  }
}

void StoreCare::Rebuild(const storage::Generation& generation) {
  {
    std::lock_guard lock(mutex_);
    ++counters_.quarantined;
    to_rebuild_.insert(generation.uid);
  }
  RetryRebuilds();
}

void StoreCare::RetryRebuilds() {
  std::set<uint64_t> waiting;
  {
    std::lock_guard lock(mutex_);
    waiting.swap(to_rebuild_);
  }
  storage::Catalog& catalog = around_.store->catalog();
  for (const uint64_t uid : waiting) {
    const absl::StatusOr<storage::Generation> generation = catalog.GetGeneration(uid);
    if (!generation.ok() || generation->residency != storage::Residency::kQuarantined) continue;
    const absl::StatusOr<storage::Corpus> corpus = catalog.GetCorpusByUid(generation->corpus_uid);
    if (!corpus.ok()) continue;
    const absl::Status begun = around_.ingest->BeginRebuild(*corpus, uid).status();
    std::lock_guard lock(mutex_);
    if (begun.ok()) {
      ++counters_.rebuilds;
    } else if (absl::IsFailedPrecondition(begun) || absl::IsUnavailable(begun) ||
               absl::IsResourceExhausted(begun)) {
      to_rebuild_.insert(uid);  // another ingest of the corpus runs, or there is no room yet
    }
  }
}

}  // namespace lectern::engine
