// What an exchange between all blocks costs when nothing is exchanged: the floor of a step that keeps its weights.
#pragma once

#include <algorithm>
#include <chrono>

#include "launch.cuh"
#include "memory.cuh"
#include "mma-step.cuh"

namespace cellbatch {

struct Meetings {
  unsigned *arrived;
  unsigned times;
};

static __global__ void __launch_bounds__(MMA_THREADS) meetings(const Meetings task) {
  for (unsigned done = 1; done <= task.times; done++) meet(task.arrived, done);
}

/** Microseconds of a launch of that many barriers, on the host's clock. */
inline double meetingsUs(const Array<unsigned> &arrived, unsigned blocks, unsigned times, cudaStream_t stream) {
  check(cudaMemsetAsync(arrived.get(), 0, sizeof(unsigned), stream), "cudaMemset");
  check(cudaStreamSynchronize(stream), "barrier");
  const auto begin = std::chrono::steady_clock::now();
  check(launchTogether(meetings, dim3(blocks), MMA_THREADS, 0, stream, Meetings{arrived.get(), times}), "cooperative launch");
  check(cudaStreamSynchronize(stream), "barrier");
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  unsigned count = 0;
  check(cudaMemcpy(&count, arrived.get(), sizeof count, cudaMemcpyDeviceToHost), "cudaMemcpy");
  if (count != blocks * times) throw DeviceError(std::to_string(count) + " blocks came to barriers for " + std::to_string(blocks * times));
  return took.count();
}

/** Of one barrier: of the quickest launch with many, less the quickest with one. */
inline double barrierUs(int card, unsigned blocks, unsigned times) {
  constexpr int ROUNDS = 5;
  check(cudaSetDevice(card), "cudaSetDevice");
  const Array<unsigned> arrived(1);
  cudaStream_t stream;
  check(cudaStreamCreate(&stream), "cudaStreamCreate");
  double many = INFINITY, one = INFINITY;
  try {
    for (int round = 0; round < ROUNDS; round++) {
      one = std::min(one, meetingsUs(arrived, blocks, 1, stream));
      many = std::min(many, meetingsUs(arrived, blocks, 1 + times, stream));
    }
  } catch (...) {
    cudaStreamDestroy(stream);
    throw;
  }
  cudaStreamDestroy(stream);
  return (many - one) / times;
}

}  // namespace cellbatch
