#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cellbatch {

/** Mulberry32: a Weyl sequence and a mixing function. */
uint32_t nextNumber(uint32_t& state) {
  state += 0x6d2b79f5u;
  uint32_t mixed = (state ^ (state >> 15)) * (state | 1);
  mixed ^= mixed + (mixed ^ (mixed >> 7)) * (mixed | 61);
  return mixed ^ (mixed >> 14);
}

int Sampler::draw(const float* logits, int width, const Draw& sampling) {
  order_.resize(width);
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(),
            [logits](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  size_t kept = width;
  if (sampling.topK > 0) kept = std::min<size_t>(kept, sampling.topK);
  weights_.resize(kept);
  double total = 0;
  for (size_t i = 0; i < kept; i++) {
    const double above = static_cast<double>(logits[order_[i]]) - logits[order_[0]];
    weights_[i] = std::exp(above / sampling.temperature);
    total += weights_[i];
  }
  if (sampling.topP < 1) {
    size_t held = 0;
    double share = 0;
    while (held < kept && share < sampling.topP * total) share += weights_[held++];
    kept = held;
    total = share;
  }
  double left = sampling.number / 4294967296.0 * total;
  for (size_t i = 0; i < kept; i++) {
    left -= weights_[i];
    if (left < 0) return order_[i];
  }
  return order_[kept - 1];
}

}  // namespace cellbatch
