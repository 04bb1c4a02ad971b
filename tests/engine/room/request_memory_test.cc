#include "engine/room/request_memory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

TEST(RequestMemoryTest, HoldsAndGivesBack) {
  RequestMemory memory(100);
  {
    auto first = memory.Acquire(60, "a test");
    ASSERT_TRUE(first.ok());
    auto second = memory.Acquire(40, "a test");
    ASSERT_TRUE(second.ok());
    EXPECT_EQ(memory.held_bytes(), 100);
    RequestMemory::Hold moved = *std::move(first);
    EXPECT_EQ(memory.held_bytes(), 100);
  }
  EXPECT_EQ(memory.held_bytes(), 0);
}

TEST(RequestMemoryTest, MoreThanThereIsIsRefusedAtOnce) {
  RequestMemory memory(100);
  const absl::Status status = memory.Acquire(101, "a test").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), "MEMORY_LIMIT_EXCEEDED");
  EXPECT_EQ(MetadataOf(status)["needed_bytes"], "101");
  EXPECT_EQ(MetadataOf(status)["limit_bytes"], "100");
  EXPECT_TRUE(memory.Acquire(100, "a test").ok());
}

TEST(RequestMemoryTest, WhatWaitsComesInOrderAndCanBeStopped) {
  RequestMemory memory(100);
  std::optional<RequestMemory::Hold> held = *memory.Acquire(80, "a test");
  std::atomic<bool> large_waits{false};
  std::atomic<bool> large_done{false};
  std::thread large([&] {
    auto hold = memory.Acquire(90, "a large one", [&] {
      large_waits = true;
      return false;
    });
    EXPECT_TRUE(hold.ok());
    large_done = true;
  });
  while (!large_waits) std::this_thread::yield();
  // A small one would fit, and does not overtake.
  EXPECT_EQ(memory.Acquire(10, "a small one", [] { return true; }).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_FALSE(large_done);
  held.reset();
  large.join();
  EXPECT_EQ(memory.held_bytes(), 0);
  EXPECT_TRUE(memory.Acquire(100, "a test").ok());
}

}  // namespace
}  // namespace lectern::engine
