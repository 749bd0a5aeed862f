// Stands in for CUDA's header, so that the sources of cuda/ compile as C++ and run on the processor: every thread of a block is a
// fiber, barriers and warps are kept, and what is put into a stream runs when somebody waits for it. For tests, where there is no
// GPU: it shows what the kernels compute, not that a GPU runs them, nor how fast.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define CELLBATCH_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
/** Blocks of one launch run one after the other, but for cooperative ones, whose kernels use `sharedMemory` alone. */
#define __shared__ static thread_local

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint4 {
  uint32_t x, y, z, w;
};

namespace emulator {

struct Place {
  dim3 thread, block, threads, blocks;
};
/** Of the fiber that runs. */
const Place& here();
void* sharedMemory();
void syncThreads();
void syncWarp();
/** Lets the other fibers run. */
void yield();
/** 64 bytes of a lane of this warp that all of its lanes reach. */
void* laneBox(int lane);
int lane();

void run(dim3 blocks, dim3 threads, size_t sharedBytes, bool areTogether, const std::function<void()>& kernel);

}  // namespace emulator

#define threadIdx (emulator::here().thread)
#define blockIdx (emulator::here().block)
#define blockDim (emulator::here().threads)
#define gridDim (emulator::here().blocks)

inline void __syncthreads() { emulator::syncThreads(); }
inline void __threadfence() {}

template <typename T>
T __shfl_down_sync(unsigned, T value, int by) {
  std::memcpy(emulator::laneBox(emulator::lane()), &value, sizeof value);
  emulator::syncWarp();
  const int from = emulator::lane() + by;
  T result = value;
  if (from < 32) std::memcpy(&result, emulator::laneBox(from), sizeof result);
  emulator::syncWarp();
  return result;
}

template <typename T>
T __ldcg(const T* from) { return *from; }

inline unsigned atomicAdd(unsigned* at, unsigned by) {
  const unsigned old = *at;
  *at += by;
  return old;
}

enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum { cudaHostAllocDefault = 0, cudaStreamCaptureModeThreadLocal = 1 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaFuncAttributes {};
struct cudaDeviceProp {
  char name[64];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem, sharedMemPerBlockOptin;
};
using EmulatedWork = std::vector<std::function<void()>>;
struct EmulatedStream {
  EmulatedWork work;
  EmulatedWork* captured = nullptr;
};
using cudaStream_t = EmulatedStream*;
using cudaGraph_t = EmulatedWork*;
using cudaGraphExec_t = EmulatedWork*;

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int card);
cudaError_t cudaSetDevice(int card);
cudaError_t cudaGetLastError();
cudaError_t emulatedMalloc(void** place, size_t bytes);
cudaError_t cudaFree(void* place);
cudaError_t cudaHostAlloc(void** place, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* place);
cudaError_t cudaMemset(void* to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, int mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance);
/** Here, so that libraries of their own can. */
inline void emulatedEnqueue(cudaStream_t stream, std::function<void()> work) {
  (stream->captured ? *stream->captured : stream->work).push_back(std::move(work));
}

template <typename T>
cudaError_t cudaMalloc(T** place, size_t bytes) {
  return emulatedMalloc(reinterpret_cast<void**>(place), bytes);
}
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Kernel) {
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  *blocks = 1;
  return cudaSuccess;
}
