// Rendezvous hashing with weights: every gateway, asked about the same name and the same groups,
// gives the same answer; a group that comes or goes moves only the names that it wins or held.
//
// A group's score for a name is -weight / ln(u), u the name's hash with the group's as a number in
// (0, 1): the maximum falls on a group with probability weight / (sum of weights) (Schindelhauer
// and Schomaker, "Weighted distributed hash tables", SPAA 2005).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::services {

struct Candidate {
  std::string name;
  double weight = 0;  // those with 0 or less are never chosen
};

// The index of the candidate that `key` belongs to; nothing without one that has a weight. Does not
// depend on their order.
std::optional<size_t> ChooseByRendezvous(std::string_view key,
                                         const std::vector<Candidate>& candidates);

}  // namespace lectern::services
