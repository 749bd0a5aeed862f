// Steps and products of many rows by cuBLASLt, with a kernel before and one after it. Fewer rows are left to the kernels of our own.
// Which sums the library takes depends on how many rows there are, so a row does not get the same bits alone and in company.
#pragma once

#include "arithmetic.cuh"
#include "products.cuh"

namespace cellbatch {

constexpr int LARGE_THREADS = 128;

/** What float32 kernels multiply, in the terms of `numbers.cuh`. */
struct Fp32 {
  using Value = float;
  static constexpr int CHUNK = 1;
  static __host__ __device__ __forceinline__ Value of(float value) { return value; }
};

/** `rows[row] = [values[reads[row][0]], values[reads[row][1]], ...]`, of `words` 32-bit words each. Blocks: rows, reads. */
static __global__ void gatherOperands(const uint32_t *values, const int *reads, uint32_t *rows, int words) {
  const size_t at = static_cast<size_t>(blockIdx.x) * gridDim.y + blockIdx.y;
  const size_t from = static_cast<size_t>(reads[at]) * words, to = at * words;
  for (int i = threadIdx.x; i < words; i += blockDim.x) rows[to + i] = values[from + i];
}

/** From `[rows, gates * hidden]` products with the states to the next ones. `nextLow` may be null. Blocks: rows, units / 128. */
template <Kind KIND, typename Number>
__global__ void finishRows(const Step step, const float *sums, typename Number::Value *nextLow, int padded) {
  constexpr int GATES = gatesOf(KIND);
  const int row = blockIdx.x, unit = blockIdx.y * LARGE_THREADS + threadIdx.x;
  if (unit >= step.hidden) return;
  float sum[GATES];
#pragma unroll
  for (int gate = 0; gate < GATES; gate++) sum[gate] = sums[(static_cast<size_t>(row) * GATES + gate) * step.hidden + unit];
  const float h = finishUnit<KIND>(step, row, unit, sum);
  if (nextLow) nextLow[static_cast<size_t>(row) * padded + unit] = Number::of(h);
}

template <typename Number>
class LargeArithmetic final : public Arithmetic {
 public:
  LargeArithmetic(std::unique_ptr<Arithmetic> few, std::unique_ptr<Products> products, int fromRows, const Model &model)
      : few_(std::move(few)), products_(std::move(products)), fromRows_(fromRows) {
    size_t operands = 0, sums = 0;
    for (const Cell &cell : model.cells) {
      operands = std::max<size_t>(operands, cell.reads * paddedTo<Number>(cell.hidden));
      sums = std::max<size_t>(sums, cell.gates() * cell.hidden);
    }
    operands_ = Array<Value>(model.maxBatch * operands);
    sums_ = Array<float>(model.maxBatch * sums);
  }

  int productLibrary() const override { return products_->version(); }

  Weights load(const Cell &cell) const override {
    Weights weights = few_->load(cell);
    if constexpr (IS_LOW) {
      if (cell.reads > 0 && cell.gates() > 0) weights.wideState = widened(cell.stateWeights, cell.gates() * cell.hidden, cell.reads, cell.hidden);
      if (cell.input > 0) weights.wideInput = widened(cell.inputWeights, cell.gates() * cell.hidden, 1, cell.input);
      if (cell.classes > 0) weights.wideHead = widened(cell.headWeights, cell.classes, 1, cell.hidden);
    }
    return weights;
  }

  size_t lowBytes(int values) const override { return few_->lowBytes(values); }

  void input(const Cell &cell, const Weights &weights, const float *x, void *low, float *out, int rows, cudaStream_t stream) const override {
    if (rows >= fromRows_) {
      few_->lowerStates(x, low, rows, cell.input, stream);
      const Matrix matrix = {rowsOf(weights.inputWeights, weights.wideInput), cell.gates() * cell.hidden, paddedTo<Number>(cell.input)};
      if (products_->multiply(matrix, IS_LOW ? low : x, weights.bias.get(), out, rows, stream)) return;
    }
    few_->input(cell, weights, x, low, out, rows, stream);
  }

  void head(const Cell &cell, const Weights &weights, const float *h, void *low, float *out, int rows, cudaStream_t stream) const override {
    if (rows >= fromRows_) {
      const Matrix matrix = {rowsOf(weights.headWeights, weights.wideHead), cell.classes, paddedTo<Number>(cell.hidden)};
      if (products_->multiply(matrix, IS_LOW ? low : h, weights.headBias.get(), out, rows, stream)) return;
    }
    few_->head(cell, weights, h, low, out, rows, stream);
  }

  int likeliestParts(int classes) const override { return few_->likeliestParts(classes); }
  bool likeliest(const Cell &cell, const Weights &weights, const float *h, const void *low, float *logits, const Likeliest &to, int rows,
                 cudaStream_t stream) const override {
    return rows < fromRows_ && few_->likeliest(cell, weights, h, low, logits, to, rows, stream);
  }

  void step(const Cell &cell, const Weights &weights, const Step &step, const void *low, void *nextLow, cudaStream_t stream) const override {
    if (cell.reads == 0 || step.rows < fromRows_ || !multiplyStates(cell, weights, step, IS_LOW ? low : step.h, stream)) {
      return few_->step(cell, weights, step, low, nextLow, stream);
    }
    switch (cell.kind) {
      case Kind::Lstm: return finish<Kind::Lstm>(step, nextLow, stream);
      case Kind::Gru: return finish<Kind::Gru>(step, nextLow, stream);
      default: return finish<Kind::TreeNode>(step, nextLow, stream);
    }
  }

  bool steps(const Cell &cell, const Weights &weights, const Step &step, const void *low, void *nextLow, int steps, unsigned *arrived,
             cudaStream_t stream) const override {
    return step.rows < fromRows_ && few_->steps(cell, weights, step, low, nextLow, steps, arrived, stream);
  }

  void lowerStates(const float *h, void *low, int rows, int hidden, cudaStream_t stream) const override {
    few_->lowerStates(h, low, rows, hidden, stream);
  }

 private:
  using Value = typename Number::Value;
  static constexpr bool IS_LOW = !std::is_same<Number, Fp32>::value;

  /** Lines of `parts` times `depth` values, each part filled up with zeros. */
  static Array<unsigned char> widened(const std::vector<float> &weights, int lines, int parts, int depth) {
    const int padded = paddedTo<Number>(depth);
    std::vector<Value> wide(static_cast<size_t>(lines) * parts * padded);
    for (size_t part = 0; part < static_cast<size_t>(lines) * parts; part++) {
      for (int k = 0; k < depth; k++) wide[part * padded + k] = Number::of(weights[part * depth + k]);
    }
    return bytesOf(wide);
  }

  static const void *rowsOf(const Array<float> &plain, const Array<unsigned char> &wide) {
    if constexpr (IS_LOW) return wide.get();
    return plain.get();
  }

  bool multiplyStates(const Cell &cell, const Weights &weights, const Step &step, const void *states, cudaStream_t stream) const {
    const int padded = paddedTo<Number>(cell.hidden);
    const Matrix matrix = {rowsOf(weights.stateWeights, weights.wideState), cell.gates() * cell.hidden, cell.reads * padded};
    if (step.reads) {
      launch(gatherOperands, dim3(step.rows, cell.reads), LARGE_THREADS, 0, stream, static_cast<const uint32_t *>(states), step.reads,
             reinterpret_cast<uint32_t *>(operands_.get()), static_cast<int>(padded * sizeof(Value) / sizeof(uint32_t)));
      states = operands_.get();
    }
    return products_->multiply(matrix, states, nullptr, sums_.get(), step.rows, stream);
  }

  template <Kind KIND>
  void finish(const Step &step, void *nextLow, cudaStream_t stream) const {
    const dim3 blocks(step.rows, blocksFor(step.hidden, LARGE_THREADS));
    launch(finishRows<KIND, Number>, blocks, LARGE_THREADS, 0, stream, step, const_cast<const float *>(sums_.get()),
           IS_LOW ? static_cast<Value *>(nextLow) : nullptr, paddedTo<Number>(step.hidden));
  }

  const std::unique_ptr<Arithmetic> few_;
  const std::unique_ptr<Products> products_;
  const int fromRows_;
  /** `[maxBatch, reads * padded]` and `[maxBatch, gates * hidden]`. */
  Array<Value> operands_;
  Array<float> sums_;
};

/** With cuBLASLt from a number of rows on, where that was asked for and is there. */
template <typename Number>
std::unique_ptr<Arithmetic> withLibrary(std::unique_ptr<Arithmetic> few, const CudaChoice &choice, const Model &model) {
  if (choice.libraryRows == 0) return few;
  int version = 0;
  cudaRuntimeGetVersion(&version);
  const std::string file = choice.library.empty() ? "libcublasLt.so." + std::to_string(version / 1000) : choice.library;
  constexpr lt::Type type = sizeof(typename Number::Value) == 2 ? lt::R_16BF : lt::R_32F;
  constexpr lt::Compute compute = std::is_same<Number, Tf32>::value ? lt::COMPUTE_32F_FAST_TF32 : lt::COMPUTE_32F;
  auto products = Products::open(file, type, compute);
  if (!products) return few;
  return std::make_unique<LargeArithmetic<Number>>(std::move(few), std::move(products), choice.libraryRows, model);
}

inline std::unique_ptr<Arithmetic> arithmeticFor(const CudaChoice &choice, const Model &model) {
  switch (choice.numbers) {
    case Numbers::Bf16: return withLibrary<Bf16>(std::make_unique<MmaArithmetic<Bf16>>(choice.card), choice, model);
    case Numbers::Tf32: return withLibrary<Tf32>(std::make_unique<MmaArithmetic<Tf32>>(choice.card), choice, model);
    default: return withLibrary<Fp32>(std::make_unique<PlainArithmetic>(), choice, model);
  }
}

}  // namespace cellbatch
