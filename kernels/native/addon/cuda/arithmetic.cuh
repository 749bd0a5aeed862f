// Launches of a cell's products and steps, in float32 or on tensor cores.
#pragma once

#include "launch.cuh"
#include "likeliest.cuh"
#include "weights.cuh"

namespace cellbatch {

inline int blocksFor(int count, int perBlock) { return (count + perBlock - 1) / perBlock; }

class Arithmetic {
 public:
  virtual ~Arithmetic() = default;
  virtual Weights load(const Cell &cell) const = 0;
  /** Bytes of one state or row as tensor cores read it, a multiple of 16; 0 where they do not. */
  virtual size_t lowBytes(int values) const = 0;
  virtual void input(const Cell &cell, const Weights &weights, const float *x, void *low, float *out, int rows, cudaStream_t) const = 0;
  virtual void head(const Cell &cell, const Weights &weights, const float *h, void *low, float *out, int rows, cudaStream_t) const = 0;
  /** Blocks that share a row in `likeliest`. */
  virtual int likeliestParts(int classes) const = 0;
  /** Logits, which may be null, and the likeliest tokens, if that is possible in one launch. */
  virtual bool likeliest(const Cell &cell, const Weights &weights, const float *h, const void *low, float *logits, const Likeliest &to,
                         int rows, cudaStream_t) const = 0;
  /** `low` and `nextLow`: the states in lower precision, read and written. */
  virtual void step(const Cell &cell, const Weights &weights, const Step &step, const void *low, void *nextLow, cudaStream_t) const = 0;
  /** Takes `steps` in one launch, if that is possible; `arrived` is for its use. */
  virtual bool steps(const Cell &, const Weights &, const Step &, const void *, void *, int, unsigned *, cudaStream_t) const {
    return false;
  }
  /** Version of the library that takes products of many rows; 0 where none does. */
  virtual int productLibrary() const { return 0; }
  /** Makes `low` of float32 states. */
  virtual void lowerStates(const float *, void *, int /*rows*/, int /*hidden*/, cudaStream_t) const {}
};

/** The float32 kernel of a kind. */
inline void launchPlain(const Cell &cell, const Weights &weights, const Step &step, cudaStream_t stream) {
  const dim3 blocks(blocksFor(step.hidden, UNITS), blocksFor(step.rows, ROWS));
  const auto run = [&](auto kernel) { launch(kernel, blocks, WARPS * UNITS, 0, stream, step, const_cast<const float *>(weights.stateWeights.get())); };
  switch (cell.kind) {
    case Kind::Lstm: return run(cellbatch::step<Kind::Lstm>);
    case Kind::Gru: return run(cellbatch::step<Kind::Gru>);
    case Kind::TreeLeaf: return run(cellbatch::step<Kind::TreeLeaf>);
    default: return run(cellbatch::step<Kind::TreeNode>);
  }
}

class PlainArithmetic final : public Arithmetic {
 public:
  Weights load(const Cell &cell) const override { return floatWeights(cell); }
  size_t lowBytes(int) const override { return 0; }
  void input(const Cell &cell, const Weights &weights, const float *x, void *, float *out, int rows, cudaStream_t stream) const override {
    product(x, weights.inputWeights, weights.bias, out, rows, cell.gates() * cell.hidden, cell.input, stream);
  }
  void head(const Cell &cell, const Weights &weights, const float *h, void *, float *out, int rows, cudaStream_t stream) const override {
    product(h, weights.headWeights, weights.headBias, out, rows, cell.classes, cell.hidden, stream);
  }
  int likeliestParts(int classes) const override { return blocksFor(classes, WARPS); }
  bool likeliest(const Cell &cell, const Weights &weights, const float *h, const void *, float *logits, const Likeliest &to, int rows,
                 cudaStream_t stream) const override {
    launch(denseLikeliest, dim3(likeliestParts(cell.classes), rows), WARPS * UNITS, 0, stream, h,
           const_cast<const float *>(weights.headWeights.get()), const_cast<const float *>(weights.headBias.get()), logits, cell.classes,
           cell.hidden, to);
    return true;
  }
  void step(const Cell &cell, const Weights &weights, const Step &step, const void *, void *, cudaStream_t stream) const override {
    launchPlain(cell, weights, step, stream);
  }

 private:
  static void product(const float *x, const Array<float> &weights, const Array<float> &bias, float *out, int rows, int width,
                      int depth, cudaStream_t stream) {
    launch(dense, dim3(blocksFor(width, WARPS), rows), WARPS * UNITS, 0, stream, x, const_cast<const float *>(weights.get()),
           const_cast<const float *>(bias.get()), out, width, depth);
  }
};

template <typename Number>
class MmaArithmetic final : public Arithmetic {
 public:
  explicit MmaArithmetic(int card) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, card), "cudaGetDeviceProperties");
    processors_ = properties.multiProcessorCount;
    mostShared_ = properties.sharedMemPerBlockOptin;
  }

  Weights load(const Cell &cell) const override { return packedWeights<Number>(cell); }
  size_t lowBytes(int values) const override { return sizeof(Value) * paddedTo<Number>(values); }

  void input(const Cell &cell, const Weights &weights, const float *x, void *low, float *out, int rows, cudaStream_t stream) const override {
    lowerRows(x, low, rows, cell.input, stream);
    product(low, weights.packedInput, weights.bias, out, rows, cell.gates() * cell.hidden, cell.input, stream);
  }

  void head(const Cell &cell, const Weights &weights, const float *, void *low, float *out, int rows, cudaStream_t stream) const override {
    product(low, weights.packedHead, weights.headBias, out, rows, cell.classes, cell.hidden, stream);
  }

  int likeliestParts(int classes) const override { return blocksFor(classes, PRODUCT_COLUMNS); }
  bool likeliest(const Cell &cell, const Weights &weights, const float *, const void *low, float *logits, const Likeliest &to, int rows,
                 cudaStream_t stream) const override {
    const dim3 blocks(likeliestParts(cell.classes), blocksFor(rows, MMA_ROWS));
    launch(mmaLikeliest<Number>, blocks, MMA_THREADS, partialBytes(PRODUCT_TILES), stream, low,
           reinterpret_cast<const uint4 *>(weights.packedHead.get()), const_cast<const float *>(weights.headBias.get()), logits, rows,
           cell.classes, paddedTo<Number>(cell.hidden), to);
    return true;
  }

  void step(const Cell &cell, const Weights &weights, const Step &step, const void *low, void *nextLow, cudaStream_t stream) const override {
    if (cell.reads == 0) {
      launchPlain(cell, weights, step, stream);
      lowerStates(step.nextH, nextLow, step.rows, step.hidden, stream);
      return;
    }
    const MmaStep task = taskOf(weights, step, low, nextLow);
    const dim3 blocks(blocksFor(step.hidden, BLOCK_UNITS), blocksFor(step.rows, MMA_ROWS));
    const auto run = [&](auto kernel, Kind kind) { launch(kernel, blocks, MMA_THREADS, partialBytes(tilesOfBlock(kind)), stream, task); };
    switch (cell.kind) {
      case Kind::Lstm: return run(mmaStep<Kind::Lstm, Number>, Kind::Lstm);
      case Kind::Gru: return run(mmaStep<Kind::Gru, Number>, Kind::Gru);
      default: return run(mmaStep<Kind::TreeNode, Number>, Kind::TreeNode);
    }
  }

  bool steps(const Cell &cell, const Weights &weights, const Step &step, const void *low, void *nextLow, int steps, unsigned *arrived,
             cudaStream_t stream) const override {
    if (step.rows > MOST_KEPT_ROWS) return false;
    MmaStep task = taskOf(weights, step, low, nextLow);
    task.steps = steps;
    task.arrived = arrived;
    switch (cell.kind) {
      case Kind::Lstm: return together<Kind::Lstm>(task, stream);
      case Kind::Gru: return together<Kind::Gru>(task, stream);
      default: return false;
    }
  }

  void lowerStates(const float *h, void *low, int rows, int hidden, cudaStream_t stream) const override {
    lowerRows(h, low, rows, hidden, stream);
  }

 private:
  using Value = typename Number::Value;
  /** Above, every block reads so many states that weights kept at hand win nothing (GPU notes: 64 to 96 rows at 1024 units). */
  static constexpr int MOST_KEPT_ROWS = 64;

  static MmaStep taskOf(const Weights &weights, const Step &step, const void *low, void *nextLow) {
    return {step, low, nextLow, reinterpret_cast<const uint4 *>(weights.packedState.get()), paddedTo<Number>(step.hidden), 1, nullptr};
  }

  static void lowerRows(const float *from, void *to, int rows, int width, cudaStream_t stream) {
    launch(lower<Number>, dim3(rows), 128, 0, stream, from, static_cast<Value *>(to), width, paddedTo<Number>(width));
  }

  static void product(const void *rows, const Array<unsigned char> &weights, const Array<float> &bias, float *out, int count, int width,
                      int depth, cudaStream_t stream) {
    launch(mmaProduct<Number>, dim3(blocksFor(width, PRODUCT_COLUMNS), blocksFor(count, MMA_ROWS)), MMA_THREADS, partialBytes(PRODUCT_TILES), stream, rows,
           reinterpret_cast<const uint4 *>(weights.get()), const_cast<const float *>(bias.get()), out, count, width, paddedTo<Number>(depth));
  }

  /** Where all blocks have room at once, with their weights. */
  template <Kind KIND>
  bool together(const MmaStep &task, cudaStream_t stream) const {
    const int blocks = blocksFor(task.step.hidden, BLOCK_UNITS);
    const size_t shared = blockWeights<KIND>(task.padded / Number::CHUNK) * sizeof(uint4) + partialBytes(tilesOfBlock(KIND));
    if (shared > mostShared_) return false;
    const auto kernel = mmaSteps<KIND, Number>;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), "shared memory");
    int each = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, MMA_THREADS, shared), "occupancy");
    if (blocks > each * processors_) return false;
    check(cudaMemsetAsync(task.arrived, 0, sizeof(unsigned), stream), "cudaMemset");
    check(launchTogether(kernel, dim3(blocks), MMA_THREADS, shared, stream, task), "cooperative launch");
    return true;
  }

  int processors_;
  size_t mostShared_;
};

}  // namespace cellbatch
