// The work that is interrupted, and what must be true of a store at any moment of it. Shared by the
// tests that kill a process and those that cut the power.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "storage/store.h"
#include "store_fixture.h"

namespace lectern::storage {

// What was acknowledged, told in lines as the work goes on.
struct Acknowledged {
  std::set<uint64_t> uploaded;
  std::map<uint64_t, uint64_t> committed_tokens;
  std::set<uint64_t> published;
  std::map<uint64_t, uint32_t> turns;
  std::set<uint64_t> deletions_begun;
  std::set<uint64_t> deleted;

  void Add(const std::string& line);
};

// Uploads, ingests in bulk and small commits, sessions, deletions, garbage collection, without an
// end. Every step that was acknowledged is told right after, and a
// deletion before it is done, too. Throws when a call fails.
class CrashWorker {
 public:
  CrashWorker(Store* store, uint64_t seed, std::function<void(const std::string&)> acknowledge);
  void Run();

 private:
  Catalog& catalog() { return store_->catalog(); }
  void Advance(uint64_t number);  // takes one corpus from wherever it stands to its end
  void Upload(uint64_t number, const Corpus& corpus);
  void IngestAll(uint64_t number, const Corpus& corpus);
  void Talk(uint64_t number, const Corpus& corpus);
  void Delete(uint64_t number);

  Store* const store_;
  std::mt19937_64 random_;
  const std::function<void(const std::string&)> acknowledge_;
  uint64_t tenant_ = 0;
};

// What was acknowledged is there; everything visible is whole. Then collects the garbage.
void ExpectAcknowledged(Store* store, const Acknowledged& acknowledged);

// Below a closed store: every data record belongs to a visible block.
void ExpectNoOrphans(const std::string& directory);

}  // namespace lectern::storage
