// The calls about each corpus that are in progress, and corpora whose changes are refused for a
// moment: the last phase of a move, which must see everything that was ever acknowledged.
// Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/types.h"

namespace lectern::services {

class CorpusGate {
 public:
  // `changed`: told, by the thread that ends it, of every call that may have changed a corpus.
  explicit CorpusGate(std::function<void(const engine::CorpusName&)> changed = nullptr)
      : told_(std::move(changed)) {}

  // A call in progress, for as long as this lives. Must not outlive the gate.
  class Pass {
   public:
    Pass() = default;
    Pass(Pass&& other) noexcept { *this = std::move(other); }
    Pass& operator=(Pass&& other) noexcept {
      std::swap(gate_, other.gate_);
      std::swap(key_, other.key_);
      std::swap(changes_, other.changes_);
      return *this;
    }
    ~Pass() {
      if (gate_ != nullptr) gate_->Leave(key_, changes_);
    }

   private:
    friend class CorpusGate;
    Pass(CorpusGate* gate, std::string key, bool changes)
        : gate_(gate), key_(std::move(key)), changes_(changes) {}

    CorpusGate* gate_ = nullptr;
    std::string key_;
    bool changes_ = false;
  };

  // `changes`: the call may change the corpus. Nothing: such calls are refused now.
  std::optional<Pass> Enter(const engine::CorpusName& name, bool changes);

  // Refuses changes from now on, and returns when those in progress have ended. False: they have
  // not at `deadline`, or somebody holds it already; changes are let in again.
  bool Hold(const engine::CorpusName& name, std::chrono::steady_clock::time_point deadline);
  // The record in etcd that the hold stands on; Release undoes both.
  void SetRevision(const engine::CorpusName& name, int64_t revision);
  void Release(const engine::CorpusName& name);
  // The revision of a hold that has one, as if it had just begun; nothing otherwise.
  std::optional<int64_t> Renew(const engine::CorpusName& name);

  struct Held {
    engine::CorpusName name;
    int64_t revision = 0;  // 0: the record is being written
    std::chrono::steady_clock::time_point since;
  };
  std::vector<Held> Holds() const;
  // Calls in progress.
  int64_t Inside(const engine::CorpusName& name) const;

 private:
  struct Entry {
    engine::CorpusName name;
    int64_t inside = 0;
    int64_t changing = 0;
    bool held = false;
    int64_t revision = 0;
    std::chrono::steady_clock::time_point since;
    bool idle() const { return inside == 0 && !held; }
  };
  void Leave(const std::string& key, bool changes);

  const std::function<void(const engine::CorpusName&)> told_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;  // by TableKey
};

}  // namespace lectern::services
