// A step, or several, on tensor cores: operands in bf16 or tf32, sums and states in float32.
//
// A block has 8 units with all their gates, 32 rows at a time: warps 0 to 3 share the sum of rows 0 to 15, warps 4 to 7 that of
// rows 16 to 31. A unit's gates lie in neighbouring columns. How the sum is split depends on the model alone, so a row gets the
// same bits alone and in company, and with either kernel.
#pragma once

#include "gates.cuh"
#include "numbers.cuh"

namespace cellbatch {

constexpr int BLOCK_UNITS = 8;
constexpr int SPLIT = 4;
constexpr int ROW_TILES = 2;
constexpr int MMA_WARPS = SPLIT * ROW_TILES;
constexpr int MMA_THREADS = 32 * MMA_WARPS;
constexpr int MMA_ROWS = 16 * ROW_TILES;

/** Tiles of 4 units: two gates of a unit stand side by side. */
constexpr __host__ __device__ int tilesOfFour(Kind kind) { return (gatesOf(kind) + 1) / 2; }
constexpr __host__ __device__ int tilesOfBlock(Kind kind) { return BLOCK_UNITS / 4 * tilesOfFour(kind); }

struct MmaStep {
  Step step;
  /** By slot or row, as `step.h`: values of `padded` numbers; and where those of the next states go, by row. */
  const void *low;
  void *nextLow;
  /** Of all blocks. */
  const uint4 *weights;
  int padded;
  /** Of one launch that takes several steps: how many, its barrier, which is 0, and whether weights fit into shared memory. */
  int steps;
  unsigned *arrived;
};

/** By lane and row tile; an entry of `uint4` has what one `mma` gives a lane. */
constexpr size_t partialBytes(int tiles) { return sizeof(float) * 4 * 32 * MMA_WARPS * tiles; }

/** The sums of this warp's share, for `TILES` tiles of columns. `row(r, read)` is where a row's numbers begin, null beyond the last. */
template <typename Number, int TILES, int READS, typename RowAt>
__device__ __forceinline__ void multiplyShare(float (*sum)[4], const uint4 *weights, int padded, RowAt rowAt) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int group = lane / 4, part = lane % 4;
  const int perRead = padded / Number::CHUNK, chunks = READS * perRead;
  const int split = warp % SPLIT;
  const int row = warp / SPLIT * 16 + group;
  const int begin = split * chunks / SPLIT, end = (split + 1) * chunks / SPLIT;
#pragma unroll
  for (int read = 0; read < READS; read++) {
    const auto *low = reinterpret_cast<const uint4 *>(rowAt(row, read));
    const auto *high = reinterpret_cast<const uint4 *>(rowAt(row + 8, read));
    const int first = begin > read * perRead ? begin : read * perRead;
    const int last = end < (read + 1) * perRead ? end : (read + 1) * perRead;
#pragma unroll 4
    for (int chunk = first; chunk < last; chunk++) {
      // Other blocks may have written these in this launch: they are read past the first cache.
      const int at = (chunk - read * perRead) * 4 + part;
      const uint4 a = low ? __ldcg(low + at) : uint4{0, 0, 0, 0};
      const uint4 b = high ? __ldcg(high + at) : uint4{0, 0, 0, 0};
#pragma unroll
      for (int tile = 0; tile < TILES; tile++) {
        addChunk<Number>(sum[tile], a, b, weights[(static_cast<size_t>(tile) * chunks + chunk) * 32 + lane]);
      }
    }
  }
}

template <int TILES>
__device__ __forceinline__ void keepShare(float (*partial)[32][4], const float (*sum)[4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
    for (int i = 0; i < 4; i++) partial[warp * TILES + tile][lane][i] = sum[tile][i];
  }
}

/** The whole sum of a row of the 32 and a column of a tile. */
template <int TILES>
__device__ __forceinline__ float totalOf(const float (*partial)[32][4], int row, int tile, int column) {
  const int lane = row % 8 * 4 + column / 2;
  const int at = row % 16 / 8 * 2 + column % 2;
  float total = 0;
#pragma unroll
  for (int split = 0; split < SPLIT; split++) total += partial[(row / 16 * SPLIT + split) * TILES + tile][lane][at];
  return total;
}

/** Rows `firstRow ... + 31` of one step. `weights` are those of the block. */
template <Kind KIND, typename Number>
__device__ __forceinline__ void stepRows(const MmaStep &task, const uint4 *weights, float (*partial)[32][4], int firstRow) {
  constexpr int GATES = gatesOf(KIND), TILES = tilesOfBlock(KIND);
  using Value = typename Number::Value;
  const Step &step = task.step;
  float sum[TILES][4] = {};
  multiplyShare<Number, TILES, readsOf(KIND)>(sum, weights, task.padded, [&](int row, int read) -> const Value * {
    if (firstRow + row >= step.rows) return nullptr;
    return static_cast<const Value *>(task.low) + static_cast<size_t>(slotOf<KIND>(step, firstRow + row, read)) * task.padded;
  });
  keepShare<TILES>(partial, sum);
  __syncthreads();
  const int row = threadIdx.x / BLOCK_UNITS, inBlock = threadIdx.x % BLOCK_UNITS;
  const int unit = blockIdx.x * BLOCK_UNITS + inBlock;
  if (firstRow + row < step.rows && unit < step.hidden) {
    float total[GATES];
#pragma unroll
    for (int gate = 0; gate < GATES; gate++) {
      const int tile = inBlock / 4 * tilesOfFour(KIND) + gate / 2;
      total[gate] = totalOf<TILES>(partial, row, tile, inBlock % 4 * 2 + gate % 2);
    }
    const float h = finishUnit<KIND>(step, firstRow + row, unit, total);
    static_cast<Value *>(task.nextLow)[static_cast<size_t>(firstRow + row) * task.padded + unit] = Number::of(h);
  }
  __syncthreads();
}

template <Kind KIND>
__host__ __device__ __forceinline__ size_t blockWeights(int chunks) {
  return static_cast<size_t>(tilesOfBlock(KIND)) * chunks * 32;
}

/** One step; weights are read from the second cache. Blocks: units / 8, rows / 32. */
template <Kind KIND, typename Number>
__global__ void __launch_bounds__(MMA_THREADS) mmaStep(const MmaStep task) {
  const size_t count = blockWeights<KIND>(readsOf(KIND) * task.padded / Number::CHUNK);
  auto *partial = static_cast<float(*)[32][4]>(sharedMemory());
  stepRows<KIND, Number>(task, task.weights + blockIdx.x * count, partial, blockIdx.y * MMA_ROWS);
}

/** All blocks of a launch have come here `times` times, and see what each has written. */
__device__ __forceinline__ void meet(unsigned *arrived, unsigned times) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    atomicAdd(arrived, 1u);
    while (loadAcquire(arrived) < times * gridDim.x) {
    }
    __threadfence();
  }
  __syncthreads();
}

/** Several steps of one launch, whose blocks run together and keep their weights. Blocks: units / 8. */
template <Kind KIND, typename Number>
__global__ void __launch_bounds__(MMA_THREADS) mmaSteps(MmaStep task) {
  using Value = typename Number::Value;
  const size_t count = blockWeights<KIND>(task.padded / Number::CHUNK);
  auto *weights = static_cast<uint4 *>(sharedMemory());
  auto *partial = reinterpret_cast<float(*)[32][4]>(weights + count);
  for (size_t i = threadIdx.x; i < count; i += MMA_THREADS) weights[i] = task.weights[blockIdx.x * count + i];
  __syncthreads();
  Step &step = task.step;
  const size_t states = static_cast<size_t>(step.rows) * step.hidden;
  for (int done = 0;; ) {
    for (int row = 0; row < step.rows; row += MMA_ROWS) stepRows<KIND, Number>(task, weights, partial, row);
    if (++done == task.steps) return;
    step.reads = nullptr;
    step.h = step.nextH;
    step.c = step.nextC;
    step.nextH += states;
    step.nextC += states;
    if (step.input) step.input += states * gatesOf(KIND);
    if (step.tokens) step.tokens += step.rows;
    task.low = task.nextLow;
    task.nextLow = static_cast<Value *>(task.nextLow) + static_cast<size_t>(step.rows) * task.padded;
    meet(task.arrived, done);
  }
}

constexpr int PRODUCT_TILES = 4;
constexpr int PRODUCT_COLUMNS = 8 * PRODUCT_TILES;

/** The 32 rows and 32 columns of this block of a product, for `totalOf`. */
template <typename Number>
__device__ __forceinline__ void multiplyTile(const void *rows, const uint4 *weights, int count, int padded, float (*partial)[32][4]) {
  using Value = typename Number::Value;
  const int firstRow = blockIdx.y * MMA_ROWS;
  const size_t perBlock = static_cast<size_t>(PRODUCT_TILES) * (padded / Number::CHUNK) * 32;
  float sum[PRODUCT_TILES][4] = {};
  multiplyShare<Number, PRODUCT_TILES, 1>(sum, weights + blockIdx.x * perBlock, padded, [&](int row, int) -> const Value * {
    return firstRow + row < count ? static_cast<const Value *>(rows) + static_cast<size_t>(firstRow + row) * padded : nullptr;
  });
  keepShare<PRODUCT_TILES>(partial, sum);
  __syncthreads();
}

/** `out[row][column] = bias[column] + weights * row`, columns packed as they are. Blocks: columns / 32, rows / 32. */
template <typename Number>
__global__ void __launch_bounds__(MMA_THREADS)
    mmaProduct(const void *rows, const uint4 *weights, const float *bias, float *out, int count, int width, int padded) {
  const int firstRow = blockIdx.y * MMA_ROWS;
  auto *partial = static_cast<float(*)[32][4]>(sharedMemory());
  multiplyTile<Number>(rows, weights, count, padded, partial);
  for (int i = threadIdx.x; i < MMA_ROWS * PRODUCT_COLUMNS; i += MMA_THREADS) {
    const int row = i / PRODUCT_COLUMNS, column = i % PRODUCT_COLUMNS, at = blockIdx.x * PRODUCT_COLUMNS + column;
    if (firstRow + row >= count || at >= width) continue;
    out[static_cast<size_t>(firstRow + row) * width + at] = totalOf<PRODUCT_TILES>(partial, row, column / 8, column % 8) + bias[at];
  }
}

/** Numbers of float32 rows, zeros up to `padded`. A block per row. */
template <typename Number>
__global__ void lower(const float *from, typename Number::Value *to, int width, int padded) {
  for (int i = threadIdx.x; i < padded; i += blockDim.x) {
    const float value = i < width ? from[static_cast<size_t>(blockIdx.x) * width + i] : 0.0f;
    to[static_cast<size_t>(blockIdx.x) * padded + i] = Number::of(value);
  }
}

}  // namespace cellbatch
