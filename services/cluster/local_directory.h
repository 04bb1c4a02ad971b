// One worker, fixed by flags: every name is on it.
#pragma once

#include <utility>

#include "services/cluster/directory.h"

namespace lectern::services {

class LocalDirectory final : public Directory {
 public:
  explicit LocalDirectory(Group worker) : worker_(std::move(worker)) {}

  bool keeps_records() const override { return false; }
  std::vector<Group> Groups() const override { return {worker_}; }
  std::optional<Placement> Known(const engine::CorpusName&) const override { return Here(); }
  std::vector<std::string> GroupsOf(std::string_view) const override { return {worker_.name}; }
  bool Reachable() const override { return true; }
  absl::StatusOr<Placement> Find(const engine::CorpusName&) override { return Here(); }
  absl::StatusOr<Placement> Place(const engine::CorpusName&) override { return Here(); }
  absl::Status Remove(const engine::CorpusName&, std::chrono::steady_clock::time_point) override {
    return absl::OkStatus();
  }

 private:
  Placement Here() const { return {.group = worker_.name}; }

  const Group worker_;
};

}  // namespace lectern::services
