// Between the states of slots and the rows of a task.
#pragma once

#include <cuda_runtime.h>

namespace cellbatch {

/** h of the slots that rows read. */
static __global__ void gather(const float *h, const int *reads, float *rows, int hidden) {
  const size_t from = static_cast<size_t>(reads[blockIdx.x]) * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) rows[static_cast<size_t>(blockIdx.x) * hidden + i] = h[from + i];
}

/** A bias for each of the rows that have no input. */
static __global__ void repeat(const float *bias, float *rows, int width) {
  for (int i = threadIdx.x; i < width; i += blockDim.x) rows[static_cast<size_t>(blockIdx.x) * width + i] = bias[i];
}

struct Scattered {
  const float *nextH, *nextC;
  const uint4 *nextLow;
  float *h, *c;
  uint4 *low;
  const int *writes;
  int hidden, words;
};

/** Rows to the slots that they are now the state of; a launch of its own, since rows may read what others write. */
static __global__ void scatter(const Scattered task) {
  const size_t row = blockIdx.x, slot = task.writes[blockIdx.x];
  for (int i = threadIdx.x; i < task.hidden; i += blockDim.x) {
    task.h[slot * task.hidden + i] = task.nextH[row * task.hidden + i];
    task.c[slot * task.hidden + i] = task.nextC[row * task.hidden + i];
  }
  for (int i = threadIdx.x; i < task.words; i += blockDim.x) task.low[slot * task.words + i] = task.nextLow[row * task.words + i];
}

}  // namespace cellbatch
