#include "engine/room/corpus_uses.h"

#include <algorithm>
#include <vector>

namespace lectern::engine {

CorpusUses::Use CorpusUses::Begin(uint64_t corpus_uid) {
  {
    std::lock_guard lock(mutex_);
    Entry& entry = entries_[corpus_uid];
    ++entry.running;
    entry.last_used = std::max(entry.last_used, clock_us_());
    entry.changed = true;
  }
  return Use(nullptr, [this, corpus_uid](void*) { End(corpus_uid); });
}

void CorpusUses::End(uint64_t corpus_uid) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[corpus_uid];
  --entry.running;
  entry.last_used = std::max(entry.last_used, clock_us_());
  entry.changed = true;
}

bool CorpusUses::IfIdle(uint64_t corpus_uid, const std::function<void()>& evict) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(corpus_uid);
  if (found != entries_.end() && found->second.running > 0) return false;
  evict();
  return true;
}

bool CorpusUses::InUse(uint64_t corpus_uid) const {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(corpus_uid);
  return found != entries_.end() && found->second.running > 0;
}

int64_t CorpusUses::LastUsed(uint64_t corpus_uid, int64_t stored) const {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(corpus_uid);
  return found == entries_.end() ? stored : std::max(stored, found->second.last_used);
}

absl::Status CorpusUses::Save() {
  std::vector<std::pair<uint64_t, int64_t>> changed;
  {
    std::lock_guard lock(mutex_);
    for (auto& [uid, entry] : entries_) {
      if (!entry.changed) continue;
      changed.emplace_back(uid, entry.last_used);
      entry.changed = false;
    }
  }
  absl::Status result;
  for (const auto& [uid, time] : changed) {
    const absl::Status status = catalog_->UseCorpus(uid, time);
    std::lock_guard lock(mutex_);
    const auto found = entries_.find(uid);
    if (status.ok() || absl::IsNotFound(status)) {
      // Storage knows it now, or never will: the corpus was deleted.
      if (found->second.running == 0 && !found->second.changed) entries_.erase(found);
    } else {
      found->second.changed = true;  // at the next call
      result.Update(status);
    }
  }
  return result;
}

}  // namespace lectern::engine
