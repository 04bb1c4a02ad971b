#include "services/gateway/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/error/error.h"
#include "services/rpc/errors.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

constexpr std::chrono::milliseconds kPoll{20};
constexpr std::chrono::milliseconds kFollow{500};
constexpr std::chrono::milliseconds kFollowPoll{50};
constexpr std::chrono::milliseconds kFirstPause{50};
constexpr int kLongestDoubling = 4;  // 0.8 s
// So that the refusal still reaches the caller before the deadline does.
constexpr std::chrono::milliseconds kMargin{100};

absl::Status GivenUp() {
  return engine::Error(absl::StatusCode::kCancelled, reason::kCancelled, "the caller cancelled");
}

}  // namespace

Router::Router(Directory& directory, Options options)
    : directory_(directory),
      options_(std::move(options)),
      watcher_([this] { Watch(); }),
      executor_(options_.threads, options_.queue_limit) {}

Router::~Router() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  watcher_.join();
  if (follower_.joinable()) follower_.join();
}

void Router::Follow() {
  follower_ = std::thread([this] { FollowChannels(); });
}

void Router::FollowChannels() {
  grpc::CompletionQueue queue;
  std::map<void*, std::shared_ptr<Backend>> followed;
  void* tag = nullptr;
  bool ok = false;
  while (true) {
    AnyReady();
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) break;
      for (const auto& [group, backend] : backends_) {
        if (!followed.emplace(backend.get(), backend).second) continue;
        backend->channel->NotifyOnStateChange(backend->channel->GetState(true),
                                              std::chrono::system_clock::now() + kFollow, &queue,
                                              backend.get());
      }
    }
    if (queue.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + kFollowPoll) ==
        grpc::CompletionQueue::GOT_EVENT) {
      followed.erase(tag);
    }
  }
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

std::shared_ptr<Backend> Router::Connected(const Group& group) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Backend>& backend = backends_[group.name];
  if (backend == nullptr || backend->address != group.address) {
    auto channel = options_.connect(group.address);
    auto stub = worker::v1::Worker::NewStub(channel);
    backend = std::make_shared<Backend>(
        Backend{group.name, group.address, std::move(channel), std::move(stub)});
  }
  return backend;
}

std::shared_ptr<Backend> Router::Ready(const std::string& name) {
  for (const Group& group : directory_.Groups()) {
    if (group.name != name) continue;
    std::shared_ptr<Backend> backend = Connected(group);
    if (backend->channel->GetState(/*try_to_connect=*/true) != GRPC_CHANNEL_READY) return nullptr;
    const std::lock_guard lock(mutex_);
    missed_.erase(name);
    return backend;
  }
  return nullptr;
}

absl::StatusOr<std::shared_ptr<Backend>> Router::AwaitReady(
    const std::string& group, Clock::time_point deadline, const std::function<bool()>& abandoned) {
  while (true) {
    const Clock::time_point until = std::min(deadline, PatienceFor(group));
    if (std::shared_ptr<Backend> backend = Ready(group)) return backend;
    if (abandoned()) return GivenUp();
    std::unique_lock lock(mutex_);
    if (Clock::now() >= until || stopping_) return Unreachable(group);
    changed_.wait_for(lock, kPoll);
  }
}

bool Router::AnyReady() {
  bool any = false;
  for (const Group& group : directory_.Groups()) any = (Ready(group.name) != nullptr) || any;
  return any;
}

Router::Clock::time_point Router::PatienceFor(const std::string& group) {
  const std::lock_guard lock(mutex_);
  return missed_.try_emplace(group, Clock::now()).first->second + options_.patience;
}

absl::Status Router::Unreachable(const std::string& group) const {
  if (group.empty()) {
    return engine::Error(absl::StatusCode::kUnavailable, reason::kNoGroup,
                         "no worker of the cluster can be reached; try again");
  }
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kGroupUnreachable,
      fmt::format("the group {}, which holds this corpus, cannot be reached; try again", group),
      {{"group", group}});
}

void Router::Find(Errand errand, Found found) {
  if (!clustered()) {
    found(Destination{Connected(directory_.Groups().front()), errand.name, 0});
    return;
  }
  if (errand.not_before > Clock::now()) {
    Wait({std::move(errand), std::move(found), std::nullopt, Clock::time_point::max()});
    return;
  }
  if (errand.name.corpus.empty()) {
    Reach(std::move(errand), {}, std::move(found));
    return;
  }
  const std::optional<Placement> known = directory_.Known(errand.name);
  if (known && !known->deleted && !errand.fresh) {
    Reach(std::move(errand), *known, std::move(found));
    return;
  }
  if (!executor_.Submit([this, errand, found] { Look(errand, found); })) {
    found(engine::Error(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                        "too many calls wait for the cluster's directory; try again"));
  }
}

void Router::Look(Errand errand, const Found& found) {
  const absl::StatusOr<Placement> placement =
      errand.place ? directory_.Place(errand.name) : directory_.Find(errand.name);
  if (!placement.ok()) {
    found(placement.status());
    return;
  }
  errand.fresh = false;
  Reach(std::move(errand), *placement, found);
}

void Router::Reach(Errand errand, const Placement& placement, Found found) {
  Waiter waiter = {std::move(errand), std::move(found), placement, {}};
  waiter.until =
      std::min(PatienceFor(placement.group), waiter.errand.deadline == Clock::time_point::max()
                                                 ? Clock::time_point::max()
                                                 : waiter.errand.deadline - kMargin);
  if (!Serve(waiter)) Wait(std::move(waiter));
}

void Router::Wait(Waiter waiter) {
  {
    const std::lock_guard lock(mutex_);
    waiters_.push_back(std::move(waiter));
  }
  changed_.notify_all();
}

bool Router::Serve(Waiter& waiter) {
  if (waiter.errand.abandoned && waiter.errand.abandoned()) {
    waiter.found(GivenUp());
    return true;
  }
  if (!waiter.placement) {
    if (Clock::now() < waiter.errand.not_before) return false;
    Find(std::move(waiter.errand), std::move(waiter.found));
    return true;
  }
  if (waiter.placement->epoch != 0) {
    // The group that was waited for may have been given up for another one.
    const std::optional<Placement> known = directory_.Known(waiter.errand.name);
    if (known && !known->deleted && known->epoch > waiter.placement->epoch) {
      waiter.placement = known;
    }
  }
  const std::string& group = waiter.placement->group;
  std::shared_ptr<Backend> backend;
  if (!group.empty()) {
    backend = Ready(group);
  } else {
    for (const Group& any : directory_.Groups()) {
      if (backend == nullptr) backend = Ready(any.name);
    }
  }
  if (backend != nullptr) {
    if (group.empty()) {
      const std::lock_guard lock(mutex_);
      missed_.erase(group);
    }
    waiter.found(Destination{std::move(backend), waiter.errand.name, waiter.placement->epoch});
    return true;
  }
  if (Clock::now() < waiter.until) return false;
  waiter.found(Unreachable(group));
  return true;
}

void Router::Watch() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !waiters_.empty(); });
    std::list<Waiter> waiting = std::exchange(waiters_, {});
    const bool stopping = stopping_;
    lock.unlock();
    for (auto it = waiting.begin(); it != waiting.end();) {
      if (stopping) {
        it->found(GivenUp());
        it = waiting.erase(it);
      } else {
        it = Serve(*it) ? waiting.erase(it) : std::next(it);
      }
    }
    lock.lock();
    waiters_.splice(waiters_.begin(), waiting);
    if (stopping_ && waiters_.empty()) return;
    if (!waiters_.empty()) changed_.wait_for(lock, kPoll, [this] { return stopping_; });
  }
}

bool Router::StillThere(const Destination& destination) const {
  if (destination.epoch == 0) return true;
  const std::optional<Placement> known = directory_.Known(destination.name);
  // What is known here may be older than what the store said.
  if (!known || known->epoch <= destination.epoch) return true;
  // Or it has moved on, and what its former group said of it is right all the same.
  return !known->deleted && known->moved_epoch == destination.epoch;
}

Again Router::Judge(const grpc::Status& status, bool idempotent) const {
  if (!clustered()) return Again::kNo;
  // A worker's server that ends cancels what it has not looked at yet. (That it was not the caller
  // who cancelled, callers of this know.)
  if (status.error_details().empty() && (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                                         status.error_code() == grpc::StatusCode::CANCELLED)) {
    return idempotent ? Again::kThere : Again::kNo;
  }
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return Again::kNo;
  const RemoteError error = ToRemoteError(status);
  const auto done = error.metadata.find("done");
  if (!idempotent && done != error.metadata.end() && done->second == "true") return Again::kNo;
  if (error.reason == reason::kNotOwner) return Again::kElsewhere;
  return error.reason == reason::kLeaseExpired || error.reason == reason::kServerDraining ||
                 error.reason == reason::kCorpusMoving || error.reason == reason::kCorpusLost
             ? Again::kThere
             : Again::kNo;
}

std::chrono::milliseconds Router::PauseBefore(int attempt) {
  return kFirstPause * (1 << std::min(attempt, kLongestDoubling));
}

Router::Counts Router::Count() {
  Counts counts = {.retries = retries_};
  for (const Group& group : directory_.Groups()) {
    counts.ready[group.name] = Ready(group.name) != nullptr;
  }
  const std::lock_guard lock(mutex_);
  counts.waiting = static_cast<int64_t>(waiters_.size());
  return counts;
}

}  // namespace lectern::services
