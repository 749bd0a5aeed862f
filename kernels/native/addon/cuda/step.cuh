// A step in float32, without tensor cores.
#pragma once

#include "gates.cuh"

namespace cellbatch {

constexpr int UNITS = 32;  // Units of one block, one per lane, so that a warp reads a row of weights' tile together.
constexpr int WARPS = 8;
constexpr int ROWS_PER_WARP = 2;
constexpr int ROWS = WARPS * ROWS_PER_WARP;
constexpr int DEPTH = 32;  // Values of the sum that are in shared memory at a time.

/**
 * One block has 16 rows and 32 units with all their gates. Sums run over the states in the same order whatever the rows, so a row
 * gets the same bits alone and in company.
 */
template <Kind KIND>
__global__ void __launch_bounds__(WARPS * UNITS) step(const Step task, const float *weights) {
  constexpr int GATES = gatesOf(KIND), READS = readsOf(KIND);
  __shared__ float states[ROWS][DEPTH];
  __shared__ float tile[GATES][UNITS][DEPTH + 1];
  const int lane = threadIdx.x % UNITS;
  const int warp = threadIdx.x / UNITS;
  const int unit = blockIdx.x * UNITS + lane;
  const int firstRow = blockIdx.y * ROWS;
  const int hidden = task.hidden;
  const int depth = READS * hidden;
  float sum[ROWS_PER_WARP][GATES] = {};
  for (int from = 0; from < depth; from += DEPTH) {
    for (int i = threadIdx.x; i < ROWS * DEPTH; i += blockDim.x) {
      const int row = firstRow + i / DEPTH;
      const int at = from + i % DEPTH;
      float value = 0;
      if (row < task.rows && at < depth) {
        value = task.h[static_cast<size_t>(slotOf<KIND>(task, row, at / hidden)) * hidden + at % hidden];
      }
      states[i / DEPTH][i % DEPTH] = value;
    }
    for (int i = threadIdx.x; i < GATES * UNITS * DEPTH; i += blockDim.x) {
      const int k = i % DEPTH;
      const int u = i / DEPTH % UNITS;
      const int gate = i / (DEPTH * UNITS);
      const int line = blockIdx.x * UNITS + u;
      tile[gate][u][k] = line < hidden && from + k < depth
                             ? weights[(static_cast<size_t>(gate) * hidden + line) * depth + from + k]
                             : 0;
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < DEPTH; k++) {
#pragma unroll
      for (int r = 0; r < ROWS_PER_WARP; r++) {
        const float value = states[warp * ROWS_PER_WARP + r][k];
#pragma unroll
        for (int gate = 0; gate < GATES; gate++) sum[r][gate] = fmaf(tile[gate][lane][k], value, sum[r][gate]);
      }
    }
    __syncthreads();
  }
  if (unit >= hidden) return;
#pragma unroll
  for (int r = 0; r < ROWS_PER_WARP; r++) {
    const int row = firstRow + warp * ROWS_PER_WARP + r;
    if (row < task.rows) finishUnit<KIND>(task, row, unit, sum[r]);
  }
}

}  // namespace cellbatch
