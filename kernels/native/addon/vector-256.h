// Eight float32 values at a time. Included after `#pragma GCC target`.
#pragma once

#include <immintrin.h>

struct Vector {
  static constexpr int LANES = 8;
  /** Rows whose sums fit the 16 registers beside the weights, by gates of a unit. */
  static constexpr int rowsFor(int gates) { return gates >= 5 ? 2 : 3; }
  __m256 v;

  static Vector load(const float *from) { return {_mm256_loadu_ps(from)}; }
  /** Backwards: `from` is the last of them in memory. */
  static Vector loadBackwards(const float *from) {
    return {_mm256_permutevar8x32_ps(_mm256_loadu_ps(from - LANES + 1), _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0))};
  }
  static Vector of(float x) { return {_mm256_set1_ps(x)}; }
  static Vector fma(Vector a, Vector b, Vector c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  Vector operator+(Vector o) const { return {_mm256_add_ps(v, o.v)}; }
  Vector operator-(Vector o) const { return {_mm256_sub_ps(v, o.v)}; }
  Vector operator*(Vector o) const { return {_mm256_mul_ps(v, o.v)}; }
  void store(float *to) const { _mm256_storeu_ps(to, v); }
  /** Of the lanes only the first `count`, if that is fewer than there are. */
  void storeFirst(float *to, int count) const {
    if (count >= LANES) return store(to);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes), v);
  }
  Vector root() const { return {_mm256_sqrt_ps(v)}; }
  static Vector min(Vector a, Vector b) { return {_mm256_min_ps(a.v, b.v)}; }
  static Vector max(Vector a, Vector b) { return {_mm256_max_ps(a.v, b.v)}; }
  Vector rounded() const { return {_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  /** 2 to the power of a whole number from -126 to 127. */
  Vector powerOfTwo() const {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127)), 23))};
  }
  /** Division is exact, and here not much slower than a guess and two steps of Newton's. */
  Vector reciprocal() const { return {_mm256_div_ps(_mm256_set1_ps(1.0f), v)}; }
};
