// From next states to logits and tokens.
#pragma once

#include "step.cuh"

namespace cellbatch {

/** A row times a line of weights in float32, by a warp, with a sum in a fixed order; the first lane gets it. */
__device__ __forceinline__ float denseValue(const float *row, const float *line, int depth) {
  float sum = 0;
  for (int k = threadIdx.x % UNITS; k < depth; k += UNITS) sum = fmaf(line[k], row[k], sum);
  for (int step = UNITS / 2; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step);
  return sum;
}

/** `out[row][at] = bias[at] + weights[at] * x[row]`: a warp per value. */
static __global__ void dense(const float *x, const float *weights, const float *bias, float *out, int width, int depth) {
  const int at = blockIdx.x * WARPS + threadIdx.x / UNITS;
  const int lane = threadIdx.x % UNITS;
  if (at >= width) return;
  const float sum = denseValue(x + static_cast<size_t>(blockIdx.y) * depth, weights + static_cast<size_t>(at) * depth, depth);
  if (lane == 0) out[static_cast<size_t>(blockIdx.y) * width + at] = sum + bias[at];
}

constexpr int TOKEN_WARPS = 8;
constexpr int TOKEN_THREADS = 32 * TOKEN_WARPS;

/** A logit and its number; the greater first, of equal ones the first. */
struct Choice {
  float logit;
  int at;
};

__device__ __forceinline__ bool isBefore(const Choice &one, const Choice &other) {
  return one.logit > other.logit || (one.logit == other.logit && one.at < other.at);
}

/** The best of a row among those behind `last`; the whole block asks, and all get the answer. */
__device__ inline Choice bestAfter(const float *row, int width, const Choice last) {
  __shared__ Choice found[TOKEN_WARPS];
  Choice best = {-INFINITY, width};
  for (int at = threadIdx.x; at < width; at += TOKEN_THREADS) {
    const Choice one = {row[at], at};
    if (isBefore(last, one) && isBefore(one, best)) best = one;
  }
  for (int step = 16; step > 0; step /= 2) {
    const Choice other = {__shfl_down_sync(0xffffffff, best.logit, step), __shfl_down_sync(0xffffffff, best.at, step)};
    if (isBefore(other, best)) best = other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = best;
  __syncthreads();
  best = found[0];
  for (int warp = 1; warp < TOKEN_WARPS; warp++) {
    if (isBefore(found[warp], best)) best = found[warp];
  }
  return best;
}

__device__ __forceinline__ double weightOf(float logit, float top, float temperature) {
  return exp((static_cast<double>(logit) - top) / temperature);
}

/** The weights of a whole row. */
__device__ inline double totalWeight(const float *row, int width, float top, float temperature) {
  __shared__ double sums[TOKEN_WARPS];
  double sum = 0;
  for (int at = threadIdx.x; at < width; at += TOKEN_THREADS) sum += weightOf(row[at], top, temperature);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
  for (int warp = 0; warp < TOKEN_WARPS; warp++) sum += sums[warp];
  return sum;
}

/**
 * The token of a row: the likeliest, or one drawn as ../engine/sampling.cc does. Tokens are visited from the likeliest on, as far as
 * the drawn one or the end of those kept, each by one pass over the row: few where the distribution is sharp. A block per row.
 */
static __global__ void chooseTokens(const float *logits, const Draw *draws, int *tokens, int width) {
  const float *row = logits + static_cast<size_t>(blockIdx.x) * width;
  const Choice nothing = {INFINITY, -1};
  const Choice top = bestAfter(row, width, nothing);
  // All logits are NaN or -Infinity.
  const int likeliest = top.at < width ? top.at : 0;
  Choice chosen = top;
  if (draws && draws[blockIdx.x].temperature > 0) {
    const Draw draw = draws[blockIdx.x];
    int kept = draw.topK > 0 && draw.topK < width ? draw.topK : width;
    double total = 0;
    if (kept == width) {
      total = totalWeight(row, width, top.logit, draw.temperature);
    } else {
      Choice at = top;
      for (int i = 0; i < kept; i++, at = bestAfter(row, width, at)) total += weightOf(at.logit, top.logit, draw.temperature);
    }
    if (draw.topP < 1) {
      int held = 0;
      double share = 0;
      for (Choice at = top; held < kept && share < draw.topP * total; held++, at = bestAfter(row, width, at)) {
        share += weightOf(at.logit, top.logit, draw.temperature);
      }
      kept = held;
      total = share;
    }
    double left = draw.number / 4294967296.0 * total - weightOf(top.logit, top.logit, draw.temperature);
    for (int i = 1; i < kept && left >= 0; i++) {
      chosen = bestAfter(row, width, chosen);
      left -= weightOf(chosen.logit, top.logit, draw.temperature);
    }
  }
  if (threadIdx.x == 0) tokens[blockIdx.x] = chosen.at < width ? chosen.at : likeliest;
}

}  // namespace cellbatch
