// Sixteen float32 values at a time. Included after `#pragma GCC target`.
#pragma once

#include <immintrin.h>

struct Vector {
  static constexpr int LANES = 16;
  /** Rows whose sums fit the 32 registers beside the weights, by gates of a unit. */
  static constexpr int rowsFor(int gates) { return gates >= 5 ? 4 : 6; }
  __m512 v;

  static Vector load(const float *from) { return {_mm512_loadu_ps(from)}; }
  /** Backwards: `from` is the last of them in memory. */
  static Vector loadBackwards(const float *from) {
    const __m512i order = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return {_mm512_permutexvar_ps(order, _mm512_loadu_ps(from - LANES + 1))};
  }
  static Vector of(float x) { return {_mm512_set1_ps(x)}; }
  static Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  Vector operator+(Vector o) const { return {_mm512_add_ps(v, o.v)}; }
  Vector operator-(Vector o) const { return {_mm512_sub_ps(v, o.v)}; }
  Vector operator*(Vector o) const { return {_mm512_mul_ps(v, o.v)}; }
  void store(float *to) const { _mm512_storeu_ps(to, v); }
  /** Of the lanes only the first `count`, if that is fewer than there are. */
  void storeFirst(float *to, int count) const {
    if (count >= LANES) store(to);
    else _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), v);
  }
  Vector root() const { return {_mm512_sqrt_ps(v)}; }
  static Vector min(Vector a, Vector b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vector max(Vector a, Vector b) { return {_mm512_max_ps(a.v, b.v)}; }
  Vector rounded() const { return {_mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  /** 2 to the power of a whole number from -126 to 127. */
  Vector powerOfTwo() const {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127)), 23))};
  }
  /** 1 / x to the last bit or two: 14 bits of a table, then one step of Newton's. */
  Vector reciprocal() const {
    const __m512 guess = _mm512_rcp14_ps(v);
    return {_mm512_mul_ps(guess, _mm512_fnmadd_ps(v, guess, _mm512_set1_ps(2.0f)))};
  }
};
