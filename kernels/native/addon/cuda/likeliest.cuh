// Logits and the likeliest token in one kernel: each block leaves the best of its columns, and the one that comes last of those with
// the same rows takes the best of all. The same bits, and the same token among equals, as a product and `chooseTokens` after it.
#pragma once

#include "head.cuh"
#include "mma-step.cuh"

namespace cellbatch {

struct Likeliest {
  /** `[rows, parts]`, for use between blocks. */
  Choice *found;
  /** Of blocks by what rows they share; 0, and left at 0. */
  unsigned *arrived;
  /** `[rows]`. */
  int *tokens;
};

__device__ __forceinline__ Choice bestOfWarp(Choice best) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const Choice other = {__shfl_down_sync(0xffffffff, best.logit, step), __shfl_down_sync(0xffffffff, best.at, step)};
    if (isBefore(other, best)) best = other;
  }
  return best;
}

/** To be called by all blocks, each of which has written its part of `found` for these rows. Blocks of whole warps. */
__device__ inline void chooseAtLast(const Likeliest &to, unsigned *arrived, int firstRow, int rows, int parts, int width) {
  __shared__ bool isLast;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    isLast = atomicAdd(arrived, 1u) == static_cast<unsigned>(parts) - 1;
    __threadfence();
  }
  __syncthreads();
  if (!isLast) return;
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int row = firstRow + threadIdx.x / 32; row < firstRow + rows; row += warps) {
    Choice best = {-INFINITY, width};
    for (int part = lane; part < parts; part += 32) {
      // Other blocks wrote these in this launch: they are read past the first cache.
      const Choice *from = to.found + static_cast<size_t>(row) * parts + part;
      const Choice one = {__ldcg(&from->logit), __ldcg(&from->at)};
      if (isBefore(one, best)) best = one;
    }
    best = bestOfWarp(best);
    // All logits may be NaN.
    if (lane == 0) to.tokens[row] = best.at < width ? best.at : 0;
  }
  if (threadIdx.x == 0) *arrived = 0;
}

/** As `dense`; `out` may be null. Blocks: columns / 8, rows. */
static __global__ void denseLikeliest(const float *x, const float *weights, const float *bias, float *out, int width, int depth, const Likeliest to) {
  __shared__ Choice found[WARPS];
  const int warp = threadIdx.x / UNITS, lane = threadIdx.x % UNITS;
  const int at = blockIdx.x * WARPS + warp;
  const int row = blockIdx.y;
  Choice best = {-INFINITY, width};
  if (at < width) {
    const float logit = denseValue(x + static_cast<size_t>(row) * depth, weights + static_cast<size_t>(at) * depth, depth) + bias[at];
    if (out && lane == 0) out[static_cast<size_t>(row) * width + at] = logit;
    const Choice one = {logit, at};
    if (isBefore(one, best)) best = one;
  }
  if (lane == 0) found[warp] = best;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int other = 1; other < WARPS; other++) {
      if (isBefore(found[other], best)) best = found[other];
    }
    to.found[static_cast<size_t>(row) * gridDim.x + blockIdx.x] = best;
  }
  chooseAtLast(to, to.arrived + row, row, 1, gridDim.x, width);
}

/** As `mmaProduct`; `out` may be null. Blocks: columns / 32, rows / 32. */
template <typename Number>
__global__ void __launch_bounds__(MMA_THREADS) mmaLikeliest(const void *rows, const uint4 *weights, const float *bias, float *out, int count,
                                                            int width, int padded, const Likeliest to) {
  auto *partial = static_cast<float(*)[32][4]>(sharedMemory());
  const int firstRow = blockIdx.y * MMA_ROWS;
  const int here = count - firstRow < MMA_ROWS ? count - firstRow : MMA_ROWS;
  multiplyTile<Number>(rows, weights, count, padded, partial);
  // A warp has a row, a lane a column.
  const int lane = threadIdx.x % 32, at = blockIdx.x * PRODUCT_COLUMNS + lane;
  for (int row = threadIdx.x / 32; row < here; row += MMA_WARPS) {
    Choice best = {-INFINITY, width};
    if (at < width) {
      const float logit = totalOf<PRODUCT_TILES>(partial, row, lane / 8, lane % 8) + bias[at];
      if (out) out[static_cast<size_t>(firstRow + row) * width + at] = logit;
      const Choice one = {logit, at};
      if (isBefore(one, best)) best = one;
    }
    best = bestOfWarp(best);
    if (lane == 0) to.found[static_cast<size_t>(firstRow + row) * gridDim.x + blockIdx.x] = best;
  }
  chooseAtLast(to, to.arrived + blockIdx.y, firstRow, here, gridDim.x, width);
}

}  // namespace cellbatch
