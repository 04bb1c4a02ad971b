#include "services/cluster/corpus_gate.h"

#include "services/cluster/records.h"

namespace lectern::services {

std::optional<CorpusGate::Pass> CorpusGate::Enter(const engine::CorpusName& name, bool changes) {
  std::string key = TableKey(name);
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[key];
  entry.name = name;
  if (changes && entry.held) return std::nullopt;
  ++entry.inside;
  entry.changing += changes;
  return Pass(this, std::move(key), changes);
}

void CorpusGate::Leave(const std::string& key, bool changes) {
  engine::CorpusName name;
  {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(key);
    if (changes) name = entry->second.name;
    --entry->second.inside;
    entry->second.changing -= changes;
    if (entry->second.idle()) entries_.erase(entry);
  }
  changed_.notify_all();
  if (changes && told_ != nullptr) told_(name);
}

bool CorpusGate::Hold(const engine::CorpusName& name,
                      std::chrono::steady_clock::time_point deadline) {
  const std::string key = TableKey(name);
  std::unique_lock lock(mutex_);
  Entry& entry = entries_[key];
  if (entry.held) return false;
  entry.name = name;
  entry.held = true;
  entry.revision = 0;
  entry.since = std::chrono::steady_clock::now();
  // A held entry stays where it is.
  if (changed_.wait_until(lock, deadline, [&entry] { return entry.changing == 0; })) return true;
  entry.held = false;
  if (entry.idle()) entries_.erase(key);
  return false;
}

void CorpusGate::SetRevision(const engine::CorpusName& name, int64_t revision) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(TableKey(name));
  if (entry != entries_.end()) entry->second.revision = revision;
}

std::optional<int64_t> CorpusGate::Renew(const engine::CorpusName& name) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(TableKey(name));
  if (entry == entries_.end() || !entry->second.held || entry->second.revision == 0) {
    return std::nullopt;
  }
  entry->second.since = std::chrono::steady_clock::now();
  return entry->second.revision;
}

void CorpusGate::Release(const engine::CorpusName& name) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(TableKey(name));
  if (entry == entries_.end()) return;
  entry->second.held = false;
  if (entry->second.idle()) entries_.erase(entry);
}

std::vector<CorpusGate::Held> CorpusGate::Holds() const {
  const std::lock_guard lock(mutex_);
  std::vector<Held> holds;
  for (const auto& [key, entry] : entries_) {
    if (entry.held) holds.push_back({entry.name, entry.revision, entry.since});
  }
  return holds;
}

int64_t CorpusGate::Inside(const engine::CorpusName& name) const {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(TableKey(name));
  return entry == entries_.end() ? 0 : entry->second.inside;
}

}  // namespace lectern::services
