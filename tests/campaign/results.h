// What campaigns leave behind: rows of tests/bench/results/trust.json, and a state that goes on
// where an interrupted campaign stopped.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lectern::campaign {

struct Row {
  std::string metric;
  int64_t size = 0;  // of what was tried: tokens of a corpus, bytes of a directory
  double value = 0;
  std::string unit;
  std::string against;  // the limit it is held to, in words
  double ratio = 0;     // value over that limit; 0 where the limit is 0 and was kept
};

// Replaces the rows of the same metric and size in `path`, keeps the others, and dates the file.
// An empty path writes nothing.
void WriteRows(const std::string& path, const std::vector<Row>& rows);

// The commit of the checkout the program was built from, and the stored format's version: results
// of one are not results of another.
std::string ResultKey();

// A small JSON object in a file; written by rename, so that a kill leaves the old one.
nlohmann::json LoadState(const std::string& path);
void SaveState(const std::string& path, const nlohmann::json& state);

}  // namespace lectern::campaign
