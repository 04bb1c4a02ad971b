#include "tests/kernels/simt/simt.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

namespace lectern::kernels::simt {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr int kBarriers = 16;
constexpr size_t kExchangeBytes = 64;  // of a lane
constexpr int kQuietRounds = 8;        // then the copy engine goes on at least
constexpr int kMostIdleRounds = 5000;  // then nobody will ever come

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "simt: %s\n", what);
  std::abort();
}

struct Barrier {
  int arrived = 0;
  uint64_t generation = 0;
};

struct Warp {
  Barrier barrier;
  size_t bytes = 0;
  int nap = 0;  // rounds that it sleeps
  alignas(64) unsigned char packed[2][kWarp * kExchangeBytes];
};

struct Block {
  Index index;
  unsigned rank = 0;
  int alive = 0;
  Barrier barriers[kBarriers];
  std::vector<Warp> warps;
};

struct Copy {
  void* to;
  const void* from;
  size_t bytes, zeros;
  void Land() const {
    std::memcpy(to, from, bytes);
    std::memset(static_cast<unsigned char*>(to) + bytes, 0, zeros);
  }
};

// What the scheduler looks at in every round, apart from the rest of a thread: it stays in cache.
struct Turn {
  const Barrier* meets = nullptr;  // where it waits, or waited last, for the others
  uint64_t generation = 0;         // of this generation
  Warp* warp = nullptr;
  bool ended = false, first_of_warp = false;
};

struct Thread {
  Turn* turn = nullptr;
  Index index;
  Block* block = nullptr;
  size_t warp = 0, lane = 0;
  std::deque<std::vector<Copy>> groups;  // of copies under way
  std::vector<Copy> open;                // the next group
  void* stack = nullptr;
  jmp_buf at;
  bool born = false;
};

struct EngineCopy {
  bool late;
  std::function<void()> copy, landed;
};

struct Run {
  Index grid, shape;
  size_t shared = 0;
  const std::function<void()>* kernel = nullptr;
  std::vector<Block> blocks;
  Barrier cluster;
  int alive = 0;
  std::vector<EngineCopy> engine;
  uint64_t random = 1;
  int idle = 0;  // rounds since anything happened
};

Run run;
std::vector<Turn> turns;
Thread* now = nullptr;
jmp_buf scheduler;
std::vector<std::unique_ptr<Thread>> threads;  // of the first cluster as of the next
// One array, so that 32-bit differences of addresses reach all of it and every static variable.
alignas(1024) unsigned char shared_memory[kMostClusterBlocks][kSharedBytes + 1024];
constexpr size_t kSharedBegin = 128;  // behind the static variables of a block: no rounder place

uint64_t Draw() {
  run.random ^= run.random << 13;
  run.random ^= run.random >> 7;
  run.random ^= run.random << 17;
  return run.random;
}

void Happened() { run.idle = 0; }

// Back to the scheduler; returns when it is this thread's turn again.
void Yield() {
  if (_setjmp(now->at) == 0) _longjmp(scheduler, 1);
}

// Waits until `count` have come; Arrives at most once a generation.
void Meet(Barrier& barrier, int count) {
  const uint64_t mine = barrier.generation;
  Happened();
  if (++barrier.arrived == count) {
    barrier.arrived = 0;
    ++barrier.generation;
    return;
  }
  now->turn->meets = &barrier;
  now->turn->generation = mine;
  while (barrier.generation == mine) Yield();
}

// Some copies land only when nobody can go on without them.
void LandOne(bool quiet) {
  if (run.engine.empty()) return;
  const size_t which = Draw() % run.engine.size();
  if (run.engine[which].late && !quiet) return;
  const EngineCopy copy = std::move(run.engine[which]);
  run.engine.erase(run.engine.begin() + static_cast<int64_t>(which));
  copy.copy();
  copy.landed();
  Happened();
}

// A thread runs one kernel after the other, as the scheduler has it.
[[noreturn]] void LiveOn() {
  for (;;) {
    (*run.kernel)();
    now->turn->ended = true;
    --run.alive;
    Happened();
    // What ends takes its memory along.
    if (--now->block->alive == 0)
      std::memset(shared_memory[now->block->rank], 0xff, kSharedBegin + run.shared);
    // Who waits for all that have not ended may have waited for this one.
    Barrier& all = now->block->barriers[0];
    if (all.arrived > 0 && all.arrived == now->block->alive) {
      all.arrived = 0;
      ++all.generation;
    }
    Yield();
  }
}

Thread& ThreadAt(size_t i) {
  while (threads.size() <= i) {
    auto thread = std::make_unique<Thread>();
    thread->stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (thread->stack == MAP_FAILED) Die("no memory for a thread's stack");
    threads.push_back(std::move(thread));
  }
  return *threads[i];
}

// One turn of one thread.
void Resume(Thread& thread) {
  now = &thread;
  if (_setjmp(scheduler) != 0) return;
  if (thread.born) _longjmp(thread.at, 1);
  thread.born = true;
  ucontext_t birth;
  getcontext(&birth);
  birth.uc_stack.ss_sp = thread.stack;
  // Stacks that end at different places of a page do not fight for the same lines of the caches.
  birth.uc_stack.ss_size =
      kStackBytes - static_cast<size_t>(thread.turn - turns.data()) % 61 * 1088;
  birth.uc_link = nullptr;
  makecontext(&birth, LiveOn, 0);
  setcontext(&birth);
}

// Mostly none, often one, sometimes long enough for the others to go far ahead.
int NapOf(uint64_t dice) {
  if (dice % 128 == 0) return static_cast<int>(dice / 128 % 128);
  return dice % 8 == 0 ? 1 : 0;
}

bool Waits(const Turn& turn) {
  return turn.meets != nullptr && turn.meets->generation == turn.generation;
}

void RunCluster(size_t threads_of_block) {
  const size_t n = threads_of_block * run.blocks.size();
  turns.assign(n, {});
  for (size_t i = 0; i < n; ++i) {
    Thread& thread = ThreadAt(i);
    const size_t place = i % threads_of_block;
    thread.index.x = static_cast<unsigned>(place);
    thread.block = &run.blocks[i / threads_of_block];
    thread.warp = place / kWarp;
    thread.lane = place % kWarp;
    thread.turn = &turns[i];
    turns[i].warp = &thread.block->warps[thread.warp];
    turns[i].first_of_warp = thread.lane == 0;
    thread.groups.clear();
    thread.open.clear();
  }
  run.alive = static_cast<int>(n);
  run.idle = 0;
  // A round gives every thread a turn, from a place and in a direction of its own.
  while (run.alive > 0) {
    const size_t begin = Draw() % n, step = Draw() % 2 == 0 ? 1 : n - 1;
    for (size_t i = 0, at = begin; i < n; ++i, at = at + step < n ? at + step : at + step - n) {
      Turn& turn = turns[at];
      if (turn.first_of_warp)
        turn.warp->nap = turn.warp->nap > 0 ? turn.warp->nap - 1 : NapOf(Draw());
      if (turn.ended || turn.warp->nap > 0 || Waits(turn)) continue;
      const uint64_t dice = Draw();
      if (dice % 256 == 0) continue;
      turn.meets = nullptr;
      Resume(*threads[at]);
      if (dice / 256 % 64 == 0) LandOne(false);
    }
    ++run.idle;
    if (run.idle > kQuietRounds) LandOne(true);
    if (run.idle > kMostIdleRounds) Die("the threads of a kernel wait for each other in vain");
  }
  if (!run.engine.empty()) Die("a block ends while copies to its memory are under way");
}

}  // namespace

Machine& TheMachine() {
  static Machine machine;
  return machine;
}

void RunGrid(Index grid, int threads_of_block, size_t shared, int cluster,
             const std::function<void()>& kernel) {
  if (shared > kSharedBytes) Die("a block wants more shared memory than there is");
  if (threads_of_block % kWarp != 0 || threads_of_block > 1024)
    Die("a block has whole warps, 32 at most");
  if (cluster > kMostClusterBlocks || grid.x % static_cast<unsigned>(cluster) != 0)
    Die("a grid is made of whole clusters of at most 16 blocks");
  run.grid = grid;
  run.shape = {static_cast<unsigned>(threads_of_block), 1, 1};
  run.shared = shared;
  run.kernel = &kernel;
  run.random = TheMachine().seed++ * 0x9e3779b97f4a7c15u + 1;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; x += static_cast<unsigned>(cluster)) {
        run.blocks.clear();
        run.blocks.resize(static_cast<size_t>(cluster));
        run.cluster = {};
        for (int i = 0; i < cluster; ++i) {
          Block& block = run.blocks[static_cast<size_t>(i)];
          block.index = {x + static_cast<unsigned>(i), y, z};
          block.rank = static_cast<unsigned>(i);
          block.alive = threads_of_block;
          block.warps.resize(static_cast<size_t>(threads_of_block / kWarp));
          std::memset(shared_memory[i], 0xff, kSharedBegin + shared);
        }
        RunCluster(static_cast<size_t>(threads_of_block));
      }
}

const Index& ThreadIndex() { return now->index; }
const Index& BlockIndex() { return now->block->index; }
const Index& BlockShape() { return run.shape; }
const Index& GridShape() { return run.grid; }
unsigned ClusterRank() { return now->block->rank; }
unsigned char* DynamicShared(unsigned rank) { return shared_memory[rank] + kSharedBegin; }

void BlockBarrier(int id, int count) {
  Barrier& barrier = now->block->barriers[id];
  if (count > 0) return Meet(barrier, count);
  if (id != 0) Die("only barrier 0 is of all threads");
  Meet(barrier, now->block->alive);
}

void ClusterBarrier() {
  if (run.alive != static_cast<int>(run.blocks.size() * run.shape.x))
    Die("a thread of a cluster ended before its last barrier");
  Meet(run.cluster, run.alive);
}

const void* WarpExchange(const void* mine, size_t bytes) {
  if (bytes > kExchangeBytes) Die("a lane gives at most 64 bytes");
  Warp& warp = now->block->warps[now->warp];
  const uint64_t side = warp.barrier.generation % 2;
  if (warp.barrier.arrived == 0) warp.bytes = bytes;
  if (warp.bytes != bytes) Die("the lanes of a warp are in different places");
  std::memcpy(warp.packed[side] + now->lane * bytes, mine, bytes);
  Meet(warp.barrier, kWarp);
  return warp.packed[side];
}

void Pause() { Yield(); }

void StartCopy(void* to, const void* from, size_t bytes, size_t zeros) {
  std::memset(to, 0xff, bytes + zeros);
  now->open.push_back({to, from, bytes, zeros});
}

void CommitCopies() {
  now->groups.push_back(std::move(now->open));
  now->open.clear();
}

void WaitForCopies(int groups_behind) {
  while (now->groups.size() > static_cast<size_t>(groups_behind)) {
    for (const Copy& copy : now->groups.front()) copy.Land();
    now->groups.pop_front();
  }
}

void StartEngineCopy(void* to, const std::function<void()>& copy, size_t bytes,
                     const std::function<void()>& landed) {
  std::memset(to, 0xff, bytes);
  Happened();
  if (Draw() % 4 == 0) {
    copy();
    landed();
    return;
  }
  run.engine.push_back({Draw() % 2 == 0, copy, landed});
}

}  // namespace lectern::kernels::simt
