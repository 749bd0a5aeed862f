// Draws tokens as src/engine/sampling.ts does: the same seed and logits give the same token.
#pragma once

#include <cstdint>
#include <vector>

#include "../device.h"

namespace cellbatch {

/** Moves `state` on and answers the number of 32 bits that it then stands for. */
uint32_t nextNumber(uint32_t& state);

class Sampler {
 public:
  /** Draws with a number that is uniform over 32 bits. */
  int draw(const float* logits, int width, const Draw& draw);

 private:
  std::vector<int> order_;
  std::vector<double> weights_;
};

}  // namespace cellbatch
