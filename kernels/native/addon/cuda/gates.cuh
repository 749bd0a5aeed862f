#pragma once

#include <cuda_runtime.h>

#include "../device.h"

namespace cellbatch {

constexpr __host__ __device__ int gatesOf(Kind kind) {
  return kind == Kind::Lstm ? 4 : kind == Kind::TreeNode ? 5 : 3;
}
constexpr __host__ __device__ int readsOf(Kind kind) {
  return kind == Kind::TreeLeaf ? 0 : kind == Kind::TreeNode ? 2 : 1;
}

/** What one step reads and writes, whatever multiplies. States of a row stand where `reads` says, by row itself where it is null. */
struct Step {
  const float *h, *c;
  const int *reads;
  const float *stateBias;
  /** `[rows, gates * hidden]`; or else rows of `table` by token. */
  const float *input, *table;
  const int *tokens;
  float *nextH, *nextC;
  int rows, hidden;
};

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <Kind KIND>
__device__ __forceinline__ int slotOf(const Step &task, int row, int read) {
  return task.reads ? task.reads[row * readsOf(KIND) + read] : row;
}

/** The next h and c of one unit of one row. `sum`: by gate, the products with the states. Answers h. */
template <Kind KIND>
__device__ __forceinline__ float finishUnit(const Step &task, int row, int unit, const float *sum) {
  constexpr int GATES = gatesOf(KIND);
  const int hidden = task.hidden;
  const size_t width = static_cast<size_t>(GATES) * hidden;
  const float *input = task.table ? task.table + task.tokens[row] * width : task.input ? task.input + row * width : nullptr;
  const auto given = [&](int gate) { return input ? input[gate * hidden + unit] : 0.0f; };
  const auto stateOf = [&](const float *states, int read) {
    return states[static_cast<size_t>(slotOf<KIND>(task, row, read)) * hidden + unit];
  };
  float h, c = 0;
  if constexpr (KIND == Kind::Gru) {
    const auto biased = [&](int gate) { return sum[gate] + task.stateBias[gate * hidden + unit]; };
    const float fresh = tanhf(given(2) + sigmoid(given(0) + biased(0)) * biased(2));
    h = fresh + sigmoid(given(1) + biased(1)) * (stateOf(task.h, 0) - fresh);
  } else {
    const auto gate = [&](int g) { return sum[g] + given(g); };
    if constexpr (KIND == Kind::Lstm) {
      c = sigmoid(gate(1)) * stateOf(task.c, 0) + sigmoid(gate(0)) * tanhf(gate(2));
      h = sigmoid(gate(3)) * tanhf(c);
    } else if constexpr (KIND == Kind::TreeLeaf) {
      c = sigmoid(gate(0)) * tanhf(gate(2));
      h = sigmoid(gate(1)) * tanhf(c);
    } else {
      c = sigmoid(gate(0)) * tanhf(gate(4)) + sigmoid(gate(1)) * stateOf(task.c, 0) + sigmoid(gate(2)) * stateOf(task.c, 1);
      h = sigmoid(gate(3)) * tanhf(c);
    }
  }
  const size_t at = static_cast<size_t>(row) * hidden + unit;
  task.nextH[at] = h;
  task.nextC[at] = c;
  return h;
}

}  // namespace cellbatch
