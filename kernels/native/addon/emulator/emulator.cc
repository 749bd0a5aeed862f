// Runs kernels as fibers. Order is on purpose not that of the threads: a kernel that lacks a barrier gives other numbers.
#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "cuda_runtime.h"

namespace emulator {
namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr int WARP = 32;

struct Barrier {
  int arrived = 0;
  unsigned generation = 0;
};

struct Warp {
  Barrier barrier;
  alignas(16) unsigned char boxes[WARP][64];
};

struct Block {
  std::vector<unsigned char> shared;
  std::vector<Warp> warps;
  Barrier barrier;
  int alive = 0;
};

struct Fiber {
  Place place;
  Block* block = nullptr;
  int number = 0;
  bool hasBegun = false, isOver = false;
  std::unique_ptr<unsigned char[]> stack{new unsigned char[STACK_BYTES]};
  ucontext_t start;
  jmp_buf at;
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  Fiber* current = nullptr;
  const std::function<void()>* kernel = nullptr;
  ucontext_t scheduler;
  jmp_buf back;
  uint32_t random = 1;
};

thread_local Machine machine;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "emulator: %s\n", what);
  std::abort();
}

void release(Barrier& barrier) {
  barrier.arrived = 0;
  barrier.generation++;
}

void wait(Barrier& barrier, int expected) {
  if (++barrier.arrived == expected) return release(barrier);
  const unsigned generation = barrier.generation;
  while (barrier.generation == generation) yield();
}

void body() {
  Machine& m = machine;
  (*m.kernel)();
  Fiber& fiber = *m.current;
  fiber.isOver = true;
  Block& block = *fiber.block;
  block.alive--;
  // A thread that has returned counts as one that waits.
  if (block.alive > 0 && block.barrier.arrived == block.alive) release(block.barrier);
  _longjmp(m.back, 1);
}

void resume(Fiber& fiber) {
  Machine& m = machine;
  m.current = &fiber;
  if (_setjmp(m.back) != 0) return;
  if (fiber.hasBegun) _longjmp(fiber.at, 1);
  fiber.hasBegun = true;
  setcontext(&fiber.start);
}

void begin(Fiber& fiber, Block& block, const Place& place, int number) {
  fiber.place = place;
  fiber.block = &block;
  fiber.number = number;
  fiber.hasBegun = fiber.isOver = false;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = STACK_BYTES;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, body, 0);
}

uint32_t random() {
  machine.random = machine.random * 1664525u + 1013904223u;
  return machine.random >> 8;
}

/** Once each, from a random one on and in a random direction. Answers whether any is left. */
bool runOnce(size_t first, size_t count) {
  const size_t start = random() % count;
  const bool isForward = random() % 2 == 0;
  bool isAnyLeft = false;
  for (size_t i = 0; i < count; i++) {
    Fiber& fiber = *machine.fibers[first + (isForward ? start + i : start + count - i) % count];
    if (fiber.isOver) continue;
    resume(fiber);
    isAnyLeft = isAnyLeft || !fiber.isOver;
  }
  return isAnyLeft;
}

/** Blocks that run together run ahead of each other, as far as they can. */
void runAll(size_t blocks, size_t perBlock) {
  std::vector<size_t> left(blocks);
  for (size_t i = 0; i < blocks; i++) left[i] = i;
  while (!left.empty()) {
    const size_t at = random() % left.size();
    bool isLeft = true;
    for (uint32_t rounds = 1 + random() % 64; rounds > 0 && isLeft; rounds--) isLeft = runOnce(left[at] * perBlock, perBlock);
    if (!isLeft) left.erase(left.begin() + at);
  }
}

}  // namespace

const Place& here() { return machine.current->place; }

void* sharedMemory() { return machine.current->block->shared.data(); }

void yield() {
  Machine& m = machine;
  Fiber& fiber = *m.current;
  if (_setjmp(fiber.at) == 0) _longjmp(m.back, 1);
}

void syncThreads() {
  Block& block = *machine.current->block;
  wait(block.barrier, block.alive);
}

int lane() { return machine.current->number % WARP; }

void syncWarp() { wait(machine.current->block->warps[machine.current->number / WARP].barrier, WARP); }

void* laneBox(int lane) { return machine.current->block->warps[machine.current->number / WARP].boxes[lane]; }

void run(dim3 blocks, dim3 threads, size_t sharedBytes, bool areTogether, const std::function<void()>& kernel) {
  Machine& m = machine;
  m.kernel = &kernel;
  const int perBlock = threads.x * threads.y * threads.z;
  if (perBlock % WARP != 0) fail("blocks of whole warps only");
  const size_t all = static_cast<size_t>(blocks.x) * blocks.y * blocks.z;
  const size_t atOnce = areTogether ? all : 1;
  while (m.fibers.size() < atOnce * perBlock) m.fibers.push_back(std::make_unique<Fiber>());
  const size_t start = areTogether ? 0 : random() % all;
  std::vector<Block> alive(atOnce);
  for (size_t first = 0; first < all; first += atOnce) {
    for (size_t i = 0; i < atOnce; i++) {
      Block& block = alive[i];
      // NaN, so that nothing is read before it is written.
      block.shared.assign(sharedBytes, 0xff);
      block.warps.assign((perBlock + WARP - 1) / WARP, Warp());
      block.barrier = Barrier();
      block.alive = perBlock;
      // Those that run one after the other begin anywhere.
      const size_t at = (first + i + start) % all;
      const dim3 place(at % blocks.x, at / blocks.x % blocks.y, at / (blocks.x * blocks.y));
      for (int t = 0; t < perBlock; t++) {
        const dim3 thread(t % threads.x, t / threads.x % threads.y, t / (threads.x * threads.y));
        begin(*m.fibers[i * perBlock + t], block, {thread, place, threads, blocks}, t);
      }
    }
    runAll(atOnce, perBlock);
  }
}

}  // namespace emulator

namespace {

constexpr size_t GUARD = 64;
constexpr unsigned char GUARD_BYTE = 0xa5;
std::mutex memory;
std::map<const void*, size_t> onDevice, pinned;

bool isPinned(const void* at) {
  std::lock_guard<std::mutex> lock(memory);
  auto after = pinned.upper_bound(at);
  if (after == pinned.begin()) return false;
  --after;
  return static_cast<const char*>(at) < static_cast<const char*>(after->first) + after->second;
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "out of memory"; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"an emulated GPU", 9, 0, 132, size_t{1} << 30, 227 << 10};
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t emulatedMalloc(void** place, size_t bytes) {
  unsigned char* at = static_cast<unsigned char*>(std::aligned_alloc(64, (bytes + GUARD + 63) / 64 * 64));
  if (at == nullptr) return cudaErrorMemoryAllocation;
  std::memset(at, 0xff, bytes);
  std::memset(at + bytes, GUARD_BYTE, GUARD);
  std::lock_guard<std::mutex> lock(memory);
  onDevice[at] = bytes;
  *place = at;
  return cudaSuccess;
}

cudaError_t cudaFree(void* place) {
  if (place == nullptr) return cudaSuccess;
  std::lock_guard<std::mutex> lock(memory);
  const unsigned char* end = static_cast<unsigned char*>(place) + onDevice.at(place);
  for (size_t i = 0; i < GUARD; i++) {
    if (end[i] == GUARD_BYTE) continue;
    std::fprintf(stderr, "emulator: something was written behind the end of device memory\n");
    std::abort();
  }
  onDevice.erase(place);
  std::free(place);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** place, size_t bytes, unsigned) {
  *place = std::malloc(bytes > 0 ? bytes : 1);
  std::lock_guard<std::mutex> lock(memory);
  pinned[*place] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* place) {
  std::lock_guard<std::mutex> lock(memory);
  pinned.erase(place);
  std::free(place);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) { return std::memset(to, value, bytes), cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  emulatedEnqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (kind == cudaMemcpyHostToDevice && !isPinned(from) && !stream->captured) {
    // Pageable memory is read before the call returns.
    const auto* bytesOf = static_cast<const unsigned char*>(from);
    emulatedEnqueue(stream, [to, kept = std::vector<unsigned char>(bytesOf, bytesOf + bytes)] {
      std::memcpy(to, kept.data(), kept.size());
    });
    return cudaSuccess;
  }
  emulatedEnqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return *stream = new EmulatedStream(), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  for (const auto& work : stream->work) work();
  stream->work.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, int) {
  return stream->captured = new EmulatedWork(), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream->captured;
  stream->captured = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long) {
  return *instance = new EmulatedWork(*graph), cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
  stream->work.insert(stream->work.end(), instance->begin(), instance->end());
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance) { return delete instance, cudaSuccess; }
