// Launches and what differs between nvcc and ../emulator.
#pragma once

#include <cuda_runtime.h>

namespace cellbatch {

#ifdef CELLBATCH_EMULATED

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, int threads, size_t sharedBytes, cudaStream_t stream, Arguments... arguments) {
  emulatedEnqueue(stream, [=] { emulator::run(blocks, threads, sharedBytes, false, [&] { kernel(arguments...); }); });
}

/** All blocks at once, so that they may wait for each other. */
template <typename Task>
cudaError_t launchTogether(void (*kernel)(Task), dim3 blocks, int threads, size_t sharedBytes, cudaStream_t stream, Task task) {
  emulatedEnqueue(stream, [=] { emulator::run(blocks, threads, sharedBytes, true, [&] { kernel(task); }); });
  return cudaSuccess;
}

inline void* sharedMemory() { return emulator::sharedMemory(); }
inline unsigned loadAcquire(const unsigned* at) {
  emulator::yield();
  return *at;
}

#else

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, int threads, size_t sharedBytes, cudaStream_t stream, Arguments... arguments) {
  kernel<<<blocks, threads, sharedBytes, stream>>>(arguments...);
}

template <typename Task>
cudaError_t launchTogether(void (*kernel)(Task), dim3 blocks, int threads, size_t sharedBytes, cudaStream_t stream, Task task) {
  void* arguments[] = {&task};
  return cudaLaunchCooperativeKernel(kernel, blocks, dim3(threads), arguments, sharedBytes, stream);
}

__device__ __forceinline__ void* sharedMemory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}

__device__ __forceinline__ unsigned loadAcquire(const unsigned* at) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

#endif

}  // namespace cellbatch
