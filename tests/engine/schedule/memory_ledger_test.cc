#include "engine/schedule/memory_ledger.h"

#include <gtest/gtest.h>

namespace lectern::engine {
namespace {

TEST(MemoryLedgerTest, HoldsUpToItsLimits) {
  MemoryLedger ledger({.kv_slots = 10, .index_slots = 5});
  const RunNeeds needs = {.kv_slots = 6, .index_slots = 2};
  EXPECT_TRUE(ledger.Fits(needs));
  ledger.Hold(needs);
  EXPECT_FALSE(ledger.Fits(needs)) << "12 K/V slots of 10";
  EXPECT_TRUE(ledger.Fits({.kv_slots = 4, .index_slots = 3}));
  EXPECT_FALSE(ledger.Fits({.kv_slots = 4, .index_slots = 4}));
  ledger.Release(needs);
  EXPECT_EQ(ledger.kv_slots(), 0);
  EXPECT_EQ(ledger.index_slots(), 0);
}

TEST(MemoryLedgerTest, ASharedBaseCountsOnceAndAsItsLargest) {
  MemoryLedger ledger({.kv_slots = 100, .index_slots = 20});
  const RunNeeds first = {.index_slots = 1, .base = 7, .base_index_slots = 10};
  const RunNeeds longer = {.index_slots = 1, .base = 7, .base_index_slots = 12};
  ledger.Hold(first);
  EXPECT_EQ(ledger.index_slots(), 11);
  ledger.Hold(longer);
  EXPECT_EQ(ledger.index_slots(), 14) << "2 of their own, 12 of the base";
  EXPECT_FALSE(ledger.Fits({.base = 8, .base_index_slots = 7})) << "another base is not shared";
  ledger.Release(first);
  EXPECT_EQ(ledger.index_slots(), 13);
  ledger.Release(longer);
  EXPECT_EQ(ledger.index_slots(), 0);
}

}  // namespace
}  // namespace lectern::engine
