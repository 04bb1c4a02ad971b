// A worker's part in moves: it takes the corpora that records in etcd send to its group, and sends
// away what is on its group while that is being emptied.
//
// Life of a move, as the group that takes the corpus sees it: rounds of copying while the owner
// serves (CorpusPull); in the last one the owner refuses changes, under a record of its own (the
// hold); everything is published in this store, where nobody is sent to yet; one transaction, which
// demands that placement, hold, move and registration are still what they were, makes this group
// the owner; the owner deletes its copy. Until that transaction the old group serves, from it on
// the new one; a worker that dies finds the record when it is back, and begins again with what it
// has. Failures that may pass are tried again for as long as the record stands; others end the
// move.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "engine/engine.h"
#include "services/cluster/corpus_pull.h"
#include "services/cluster/etcd_directory.h"
#include "services/cluster/member.h"

namespace lectern::services {

class Mover {
 public:
  struct Options {
    // A channel to the worker at an address.
    std::function<std::shared_ptr<grpc::Channel>(const std::string& address)> connect;
    // Whether what has come of a corpus is a replica's, and none of the mover's business.
    std::function<bool(const engine::ImportedCorpus& import)> of_replica;
  };
  // What is given outlives the mover.
  Mover(EtcdDirectory& directory, Member& member, engine::Engine& engine, Options options)
      : directory_(directory), member_(member), engine_(engine), options_(std::move(options)) {}
  ~Mover() { Stop(); }

  // Once, when the member has joined.
  void Start();
  // Ends what runs; the records stay, for the next life.
  void Stop();

  struct Counts {
    int64_t done = 0;
    int64_t failed = 0;
    int64_t cancelled = 0;
    int64_t failed_attempts = 0;
    int64_t bytes = 0;
  };
  Counts Count() const;
  // Whether the corpus is on its way here now.
  bool Active(const engine::CorpusName& name) const;

 private:
  struct Job {
    std::thread thread;
    std::shared_ptr<CorpusPull> pull;  // while one runs; under mutex_
    bool over = false;                 // under mutex_
  };
  enum class Outcome { kDone, kAgain, kEnded };

  void Dispatch();
  // Imports that an earlier life of this worker, or a move that was ended, has left.
  void SettleImports();
  void StartJobs();
  void ReapJobs();
  // Begins moves away from this group while it is being emptied.
  void Empty();

  void Move(const engine::CorpusName& name);
  absl::Status Attempt(MoveRecord& move);
  absl::Status Switch(MoveRecord& move, int64_t epoch, const CorpusPull::Pulled& pulled,
                      int64_t registration);
  // Writes how far the move is. ABORTED: it is not to go on.
  absl::Status Tell(MoveRecord& move, const CorpusPull::Progress& progress, int64_t bytes_before,
                    int64_t records_before);
  // What an attempt's error means for the move.
  Outcome Judge(MoveRecord& move, const absl::Status& status);
  void EndMove(MoveRecord& move, MoveState state, const absl::Status& error);
  // Removes what has come of the corpus, unless it is this group's by now.
  void AbandonImports(const engine::CorpusName& name);
  absl::Status SettleImport(const engine::ImportedCorpus& import);
  bool Pause(std::chrono::milliseconds time);
  void SetPull(const engine::CorpusName& name, std::shared_ptr<CorpusPull> pull);

  EtcdDirectory& directory_;
  Member& member_;
  engine::Engine& engine_;
  const Options options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::map<std::string, Job> jobs_;  // by TableKey
  std::thread dispatcher_;
  std::chrono::steady_clock::time_point settled_;  // of the dispatcher

  std::atomic<int64_t> done_ = 0;
  std::atomic<int64_t> failed_ = 0;
  std::atomic<int64_t> cancelled_ = 0;
  std::atomic<int64_t> failed_attempts_ = 0;
  std::atomic<int64_t> bytes_ = 0;
};

}  // namespace lectern::services
