// Whose turn it is among tenants that want the same thing: start-time fair queueing (Goyal, Vin and
// Cheng, 1996). Every tenant has a virtual time that grows with the tokens computed for it, divided
// by its weight; the one that is furthest behind goes first. A tenant that was away comes back at
// the time of those who stayed: it can save up nothing, and owes nothing.
//
// Between two tenants that both always want something, tokens differ from the ratio of their
// weights by at most one grant each. Integers only: the same calls give the same order everywhere.
#pragma once

#include <cstdint>
#include <map>

#include "engine/quota/share_weight.h"

namespace lectern::engine {

class FairShares {
 public:
  // A run of the tenant has come; has gone.
  void Enter(uint64_t tenant);
  void Leave(uint64_t tenant);
  // REQUIRES: entered; 1 <= weight <= kMaxTenantWeight.
  void Charge(uint64_t tenant, int32_t weight, int64_t tokens);
  // Least goes first. REQUIRES: entered.
  int64_t Time(uint64_t tenant) const;

 private:
  struct Account {
    int64_t runs = 0;
    int64_t time = 0;
  };
  int64_t Now() const;  // the least time of a tenant that is here

  std::map<uint64_t, Account> accounts_;
};

}  // namespace lectern::engine
