// What tensor cores multiply, and how operands lie for them.
//
// A lane's 16 bytes of a row are its operands of two `mma` (m16n8): the sum may run in any order, so lane t of a row's four takes
// `PER` neighbouring values of a chunk of `4 * PER`, and nothing is shuffled or staged. Weights are packed to match:
//
//   [tile of 8 columns][chunk][lane = 4 * column + t][PER]
#pragma once

#include <cuda_runtime.h>

#include <cstring>
#include <vector>

namespace cellbatch {

__host__ __device__ __forceinline__ uint32_t bitsOf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

__host__ __device__ __forceinline__ float fromBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

#ifdef CELLBATCH_EMULATED
/** What `mma` of a warp does to the sums of this lane, by the layout that PTX gives; `product(a, b)` adds the values of two words. */
template <int WORDS_A, int WORDS_B, typename Product>
void emulateMma(float *sum, const uint32_t *a, const uint32_t *b, Product product) {
  const int lane = emulator::lane(), g = lane / 4, t = lane % 4;
  uint32_t box[WORDS_A + WORDS_B];
  std::memcpy(box, a, sizeof(uint32_t) * WORDS_A);
  std::memcpy(box + WORDS_A, b, sizeof(uint32_t) * WORDS_B);
  std::memcpy(emulator::laneBox(lane), box, sizeof box);
  emulator::syncWarp();
  for (int i = 0; i < 4; i++) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    for (int word = 0; word < WORDS_B; word++) {
      for (int k = 0; k < 4; k++) {
        const auto *from = static_cast<uint32_t *>(emulator::laneBox(row % 8 * 4 + k));
        const auto *with = static_cast<uint32_t *>(emulator::laneBox(column * 4 + k));
        sum[i] += product(from[row / 8 + 2 * word], with[WORDS_A + word]);
      }
    }
  }
  emulator::syncWarp();
}
#endif

struct Bf16 {
  using Value = uint16_t;
  static constexpr int PER = 8, CHUNK = 32;

  static __host__ __device__ __forceinline__ Value of(float value) {
    const uint32_t bits = bitsOf(value);
    if (value != value) return 0x7fff;
    return static_cast<Value>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }

  /** m16n8k16. */
  static __device__ __forceinline__ void multiply(float *sum, const uint32_t *a, const uint32_t *b) {
#ifdef CELLBATCH_EMULATED
    emulateMma<4, 2>(sum, a, b, [](uint32_t x, uint32_t y) {
      return fromBits(x << 16) * fromBits(y << 16) + fromBits(x & 0xffff0000) * fromBits(y & 0xffff0000);
    });
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }
};

struct Tf32 {
  using Value = float;
  static constexpr int PER = 4, CHUNK = 16;

  static __host__ __device__ __forceinline__ Value of(float value) {
    return value != value ? value : fromBits((bitsOf(value) + 0x1000) & ~0x1fffu);
  }

  /** m16n8k8. */
  static __device__ __forceinline__ void multiply(float *sum, const uint32_t *a, const uint32_t *b) {
#ifdef CELLBATCH_EMULATED
    emulateMma<4, 2>(sum, a, b, [](uint32_t x, uint32_t y) { return fromBits(x) * fromBits(y); });
#else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }
};

/** Adds a chunk of 16 rows times 8 columns: `low` and `high` are this lane's bytes of rows g and g + 8. */
template <typename Number>
__device__ __forceinline__ void addChunk(float *sum, const uint4 &low, const uint4 &high, const uint4 &weights) {
  const uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
  const uint32_t firstWeights[2] = {weights.x, weights.y}, secondWeights[2] = {weights.z, weights.w};
  Number::multiply(sum, first, firstWeights);
  Number::multiply(sum, second, secondWeights);
}

/** Width of a row of `hidden` values with zeros up to a whole chunk. */
template <typename Number>
constexpr int paddedTo(int hidden) {
  return (hidden + Number::CHUNK - 1) / Number::CHUNK * Number::CHUNK;
}

/**
 * Packs a matrix of `tiles * 8` columns by `depth` values, a multiple of the chunk. `valueAt(column, k)` answers a weight, zero
 * where there is none.
 */
template <typename Number, typename ValueAt>
std::vector<typename Number::Value> pack(int tiles, int depth, ValueAt valueAt) {
  std::vector<typename Number::Value> packed(static_cast<size_t>(tiles) * 8 * depth);
  size_t at = 0;
  for (int tile = 0; tile < tiles; tile++) {
    for (int chunk = 0; chunk < depth; chunk += Number::CHUNK) {
      for (int lane = 0; lane < 32; lane++) {
        for (int k = 0; k < Number::PER; k++) {
          packed[at++] = Number::of(valueAt(tile * 8 + lane / 4, chunk + lane % 4 * Number::PER + k));
        }
      }
    }
  }
  return packed;
}

}  // namespace cellbatch
