// Draws tokens as src/engine/sampling.ts does: the same seed and logits give the same token.
#pragma once

#include <cstdint>
#include <vector>

namespace cellbatch {

struct Sampling {
  /** Above 0. */
  float temperature = 1;
  /** Only among this many likeliest tokens; 0 for all. */
  int topK = 0;
  /** Only among the likeliest that hold this share of the probability, in (0, 1]. */
  float topP = 1;
};

class Sampler {
 public:
  /** Moves `state` on, and draws with the number that it then stands for. */
  int draw(const float* logits, int width, const Sampling& sampling, uint32_t& state);

 private:
  std::vector<int> order_;
  std::vector<double> weights_;
};

}  // namespace cellbatch
