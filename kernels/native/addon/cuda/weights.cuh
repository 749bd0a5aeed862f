#pragma once

#include "memory.cuh"
#include "mma-step.cuh"

namespace cellbatch {

/** A cell's weights on the device. Those that tensor cores multiply are packed, and then not there in float32. */
struct Weights {
  Array<float> table, inputWeights, bias, stateWeights, stateBias, headWeights, headBias;
  Array<unsigned char> packedState, packedInput, packedHead;
  /** The same for cuBLASLt: by rows, each filled up with zeros. */
  Array<unsigned char> wideState, wideInput, wideHead;
};

template <typename Value>
Array<unsigned char> bytesOf(const std::vector<Value> &values) {
  std::vector<unsigned char> bytes(values.size() * sizeof(Value));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return Array<unsigned char>(bytes);
}

/** Columns of a block: `[unit / 4][gate / 2]` tiles, in a tile `[unit % 4][gate % 2]`. */
template <typename Number>
Array<unsigned char> packState(const Cell &cell) {
  const int fours = tilesOfFour(cell.kind), blocks = (cell.hidden + BLOCK_UNITS - 1) / BLOCK_UNITS;
  const int padded = paddedTo<Number>(cell.hidden), depth = cell.reads * cell.hidden;
  return bytesOf(pack<Number>(blocks * tilesOfBlock(cell.kind), cell.reads * padded, [&](int column, int k) {
    const int tile = column / 8, unit = tile / fours * 4 + column % 8 / 2, gate = tile % fours * 2 + column % 2;
    const int read = k / padded, at = k % padded;
    if (unit >= cell.hidden || gate >= cell.gates() || at >= cell.hidden) return 0.0f;
    return cell.stateWeights[(static_cast<size_t>(gate) * cell.hidden + unit) * depth + read * cell.hidden + at];
  }));
}

/** A matrix of `width` rows for `mmaProduct`, whose blocks have 4 tiles. */
template <typename Number>
Array<unsigned char> packRows(const std::vector<float> &weights, int width, int depth) {
  return bytesOf(pack<Number>((width + 31) / 32 * 4, paddedTo<Number>(depth), [&](int row, int k) {
    return row < width && k < depth ? weights[static_cast<size_t>(row) * depth + k] : 0.0f;
  }));
}

inline Weights plainWeights(const Cell &cell) {
  Weights weights;
  weights.table = Array<float>(cell.table);
  weights.bias = Array<float>(cell.bias);
  weights.stateBias = Array<float>(cell.stateBias);
  weights.headBias = Array<float>(cell.headBias);
  return weights;
}

inline Weights floatWeights(const Cell &cell) {
  Weights weights = plainWeights(cell);
  weights.inputWeights = Array<float>(cell.inputWeights);
  weights.stateWeights = Array<float>(cell.stateWeights);
  weights.headWeights = Array<float>(cell.headWeights);
  return weights;
}

template <typename Number>
Weights packedWeights(const Cell &cell) {
  Weights weights = plainWeights(cell);
  if (cell.reads > 0 && cell.gates() > 0) weights.packedState = packState<Number>(cell);
  if (cell.input > 0) weights.packedInput = packRows<Number>(cell.inputWeights, cell.gates() * cell.hidden, cell.input);
  if (cell.classes > 0) weights.packedHead = packRows<Number>(cell.headWeights, cell.classes, cell.hidden);
  return weights;
}

}  // namespace cellbatch
