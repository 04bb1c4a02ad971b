#pragma once

// A GPU of the tests: runs the kernels' own source on the CPU, every CUDA thread a stack of its
// own.
//
// Threads take turns in an order that a seed draws, and change places wherever they wait for each
// other. Copies that hardware makes by itself land at any time between their start and the wait for
// them, as the seed has it; from their start on what they will overwrite is NaN. Shared memory
// begins as NaN. So a kernel that forgets a barrier or a wait, or lets a copy overwrite what is
// still read, gives wrong numbers here in most orders; one in which threads wait for each other in
// vain ends the test with a message.
//
// What this cannot tell: the speed, the rounding inside tensor cores, whether the PTX behind
// kernels/cuda's functions does what their comments say (the functions are this folder's own here),
// and what the compiler makes of the source. One process-wide machine, one host thread.

#include <cstddef>
#include <cstdint>
#include <functional>

namespace lectern::kernels::simt {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

// What launches find. Tests change it between launches.
struct Machine {
  int multiprocessors = 3;
  bool hopper = true;
  uint64_t seed = 1;  // of a grid's order of threads and landing of copies; the next has the next
};
Machine& TheMachine();

inline constexpr int kWarp = 32;
inline constexpr size_t kSharedBytes = 227 * 1024;  // of a block
inline constexpr int kMostClusterBlocks = 16;

// Runs `kernel` in every thread of the grid, cluster by cluster, in order.
void RunGrid(Index grid, int threads, size_t shared, int cluster,
             const std::function<void()>& kernel);

// --- For the thread that runs.

// Where it is.
const Index& ThreadIndex();
const Index& BlockIndex();
const Index& BlockShape();
const Index& GridShape();
unsigned ClusterRank();

unsigned char* DynamicShared(unsigned rank);  // of a block of its cluster

// Until `count` threads of the block have come to barrier `id`; count 0: all that have not ended.
void BlockBarrier(int id, int count);
void ClusterBarrier();

// Puts `bytes` of its own where the other lanes of its warp can read them, and waits for all of
// theirs. What is returned, one behind the other, stays until the next call.
const void* WarpExchange(const void* mine, size_t bytes);

// Lets others run; to be called in a loop that waits for what they do.
void Pause();

// A copy by itself to shared memory: of this thread alone, in groups (cp.async), or by the copy
// engine, which then calls `landed`.
void StartCopy(void* to, const void* from, size_t bytes, size_t zeros);
void CommitCopies();
void WaitForCopies(int groups_behind);
void StartEngineCopy(void* to, const std::function<void()>& copy, size_t bytes,
                     const std::function<void()>& landed);

}  // namespace lectern::kernels::simt
