// Cells on a CUDA device, in float32: one fused kernel per step (gather, product with the states, activations), then one that
// scatters. States, weights and tables stay on the device; inputs and outputs are pinned memory of the host.
#include <cuda_runtime.h>

#include <cmath>
#include <map>

#include "device.h"

namespace cellbatch {
namespace {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw DeviceError(std::string(what) + ": " + cudaGetErrorString(error));
}

constexpr int UNITS = 32;  // Units of one block, one per lane, so that a warp reads a row of weights' tile together.
constexpr int WARPS = 8;
constexpr int ROWS_PER_WARP = 2;
constexpr int ROWS = WARPS * ROWS_PER_WARP;
constexpr int DEPTH = 32;  // Values of the sum that are in shared memory at a time.

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/** What one step reads and writes. `[rows, gates * hidden]` of `input`, or a table's rows by token. */
struct Step {
  const float *h, *c;
  const int *reads;
  const float *weights, *stateBias, *input, *table;
  const int *tokens;
  float *nextH, *nextC;
  int rows, hidden;
};

/**
 * One block has 16 rows and 32 units with all their gates. Sums run over the states in the same order whatever the rows, so a row
 * gets the same bits alone and in company.
 */
template <Kind KIND, int GATES, int READS>
__global__ void __launch_bounds__(WARPS * UNITS) step(const Step task) {
  __shared__ float states[ROWS][DEPTH];
  __shared__ float tile[GATES][UNITS][DEPTH + 1];
  const int lane = threadIdx.x % UNITS;
  const int warp = threadIdx.x / UNITS;
  const int unit = blockIdx.x * UNITS + lane;
  const int firstRow = blockIdx.y * ROWS;
  const int hidden = task.hidden;
  const int depth = READS * hidden;
  float sum[GATES][ROWS_PER_WARP] = {};
  for (int from = 0; from < depth; from += DEPTH) {
    for (int i = threadIdx.x; i < ROWS * DEPTH; i += blockDim.x) {
      const int row = firstRow + i / DEPTH;
      const int at = from + i % DEPTH;
      float value = 0;
      if (row < task.rows && at < depth) {
        const int slot = task.reads[row * READS + at / hidden];
        value = task.h[static_cast<size_t>(slot) * hidden + at % hidden];
      }
      states[i / DEPTH][i % DEPTH] = value;
    }
    for (int i = threadIdx.x; i < GATES * UNITS * DEPTH; i += blockDim.x) {
      const int k = i % DEPTH;
      const int u = i / DEPTH % UNITS;
      const int gate = i / (DEPTH * UNITS);
      const int line = blockIdx.x * UNITS + u;
      tile[gate][u][k] = line < hidden && from + k < depth
                             ? task.weights[(static_cast<size_t>(gate) * hidden + line) * depth + from + k]
                             : 0;
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < DEPTH; k++) {
#pragma unroll
      for (int r = 0; r < ROWS_PER_WARP; r++) {
        const float value = states[warp * ROWS_PER_WARP + r][k];
#pragma unroll
        for (int gate = 0; gate < GATES; gate++) sum[gate][r] = fmaf(tile[gate][lane][k], value, sum[gate][r]);
      }
    }
    __syncthreads();
  }
  if (unit >= hidden) return;
#pragma unroll
  for (int r = 0; r < ROWS_PER_WARP; r++) {
    const int row = firstRow + warp * ROWS_PER_WARP + r;
    if (row >= task.rows) return;
    const float *input = task.table ? task.table + static_cast<size_t>(task.tokens[row]) * GATES * hidden
                                    : task.input + static_cast<size_t>(row) * GATES * hidden;
    const auto given = [&](int gate) { return task.input || task.table ? input[gate * hidden + unit] : 0.0f; };
    const auto stateOf = [&](const float *states, int read) {
      return states[static_cast<size_t>(task.reads[row * READS + read]) * hidden + unit];
    };
    float h, c = 0;
    if constexpr (KIND == Kind::Gru) {
      const auto biased = [&](int gate) { return sum[gate][r] + task.stateBias[gate * hidden + unit]; };
      const float fresh = tanhf(given(2) + sigmoid(given(0) + biased(0)) * biased(2));
      h = fresh + sigmoid(given(1) + biased(1)) * (stateOf(task.h, 0) - fresh);
    } else {
      const auto gate = [&](int g) { return sum[g][r] + given(g); };
      if constexpr (KIND == Kind::Lstm) {
        c = sigmoid(gate(1)) * stateOf(task.c, 0) + sigmoid(gate(0)) * tanhf(gate(2));
        h = sigmoid(gate(3)) * tanhf(c);
      } else if constexpr (KIND == Kind::TreeLeaf) {
        c = sigmoid(gate(0)) * tanhf(gate(2));
        h = sigmoid(gate(1)) * tanhf(c);
      } else {
        c = sigmoid(gate(0)) * tanhf(gate(4)) + sigmoid(gate(1)) * stateOf(task.c, 0) +
            sigmoid(gate(2)) * stateOf(task.c, 1);
        h = sigmoid(gate(3)) * tanhf(c);
      }
    }
    task.nextH[static_cast<size_t>(row) * hidden + unit] = h;
    task.nextC[static_cast<size_t>(row) * hidden + unit] = c;
  }
}

/** Rows of `next` to the slots that they are now the state of; a launch of its own, since rows may read what others write. */
__global__ void scatter(const float *nextH, const float *nextC, const int *writes, float *h, float *c, int hidden) {
  const size_t from = static_cast<size_t>(blockIdx.x) * hidden;
  const size_t to = static_cast<size_t>(writes[blockIdx.x]) * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
    h[to + i] = nextH[from + i];
    c[to + i] = nextC[from + i];
  }
}

__global__ void gather(const float *h, const int *reads, float *rows, int hidden) {
  const size_t from = static_cast<size_t>(reads[blockIdx.x]) * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) rows[static_cast<size_t>(blockIdx.x) * hidden + i] = h[from + i];
}

/** `out[row][at] = bias[at] + weights[at] * x[row]`: a warp per value, with a sum in a fixed order. */
__global__ void dense(const float *x, const float *weights, const float *bias, float *out, int width, int depth) {
  const int at = blockIdx.x * WARPS + threadIdx.x / UNITS;
  const int lane = threadIdx.x % UNITS;
  if (at >= width) return;
  const float *line = weights + static_cast<size_t>(at) * depth;
  const float *row = x + static_cast<size_t>(blockIdx.y) * depth;
  float sum = 0;
  for (int k = lane; k < depth; k += UNITS) sum = fmaf(line[k], row[k], sum);
  for (int step = UNITS / 2; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step);
  if (lane == 0) out[static_cast<size_t>(blockIdx.y) * width + at] = sum + bias[at];
}

/** The number of the greatest of a row, the first of several. A warp per row. */
__global__ void argmax(const float *logits, int *token, int width) {
  const float *row = logits + static_cast<size_t>(blockIdx.x) * width;
  float most = -INFINITY;
  int best = 0;
  for (int at = threadIdx.x; at < width; at += UNITS) {
    if (row[at] > most) {
      most = row[at];
      best = at;
    }
  }
  for (int step = UNITS / 2; step > 0; step /= 2) {
    const float other = __shfl_down_sync(0xffffffff, most, step);
    const int at = __shfl_down_sync(0xffffffff, best, step);
    if (other > most || (other == most && at < best)) {
      most = other;
      best = at;
    }
  }
  if (threadIdx.x == 0) token[blockIdx.x] = best;
}

/** Memory of the device for a number of values. */
template <typename T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t count) : count_(count) {
    if (count > 0) check(cudaMalloc(&data_, count * sizeof(T)), "cudaMalloc");
  }
  explicit Array(const std::vector<T> &values) : Array(values.size()) {
    if (count_ > 0) check(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  Array(Array &&other) noexcept : data_(other.data_), count_(other.count_) { other.data_ = nullptr; }
  Array &operator=(Array &&other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Array() { cudaFree(data_); }
  T *get() const { return data_; }
  size_t size() const { return count_; }

 private:
  T *data_ = nullptr;
  size_t count_ = 0;
};

struct Weights {
  Array<float> table, inputWeights, bias, stateWeights, stateBias, headWeights, headBias;
};

class Cuda final : public Device {
 public:
  Cuda(const Model &model, int card) : model_(model), card_(card) {
    use();
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
    size_t gates = 0, classes = 0, inputs = 0;
    for (const Cell &cell : model.cells) {
      weights_.push_back({Array(cell.table), Array(cell.inputWeights), Array(cell.bias), Array(cell.stateWeights),
                          Array(cell.stateBias), Array(cell.headWeights), Array(cell.headBias)});
      gates = std::max<size_t>(gates, cell.gates());
      classes = std::max<size_t>(classes, cell.classes);
      inputs = std::max<size_t>(inputs, cell.input);
    }
    const size_t rows = model.maxBatch;
    nextH_ = Array<float>(rows * model.hidden);
    nextC_ = Array<float>(rows * model.hidden);
    input_ = Array<float>(rows * inputs);
    fromInput_ = Array<float>(rows * gates * model.hidden);
    logits_ = Array<float>(rows * classes);
    tokens_ = Array<int>(rows);
    best_ = Array<int>(rows);
    reads_ = Array<int>(2 * rows);
    writes_ = Array<int>(rows);
  }

  ~Cuda() override {
    close();
    for (void *place : allocated_) cudaFreeHost(place);
  }

  void reserve(int count) override {
    use();
    const size_t size = static_cast<size_t>(count) * model_.hidden;
    if (h_.size() >= size) return;
    for (Array<float> *states : {&h_, &c_}) {
      Array<float> grown(size);
      check(cudaMemset(grown.get(), 0, size * sizeof(float)), "cudaMemset");
      if (states->size() > 0) {
        check(cudaMemcpy(grown.get(), states->get(), states->size() * sizeof(float), cudaMemcpyDeviceToDevice), "cudaMemcpy");
      }
      *states = std::move(grown);
    }
  }

  void *allocate(size_t bytes) override {
    use();
    void *place;
    check(cudaHostAlloc(&place, bytes, cudaHostAllocDefault), "cudaHostAlloc");
    allocated_.push_back(place);
    return place;
  }

  void run(const Task &task, const Places &places) override {
    use();
    stepByStep(task, model_.cells[task.cell], places, [this](const Task &one, const Places &at) { runStep(one, at); });
    check(cudaStreamSynchronize(stream_), "step");
  }

  void clear(int slot) override {
    use();
    const size_t at = static_cast<size_t>(slot) * model_.hidden;
    for (const Array<float> *states : {&h_, &c_}) {
      check(cudaMemsetAsync(states->get() + at, 0, model_.hidden * sizeof(float), stream_), "cudaMemset");
    }
  }

  void read(int slot, float *h, float *c) override {
    use();
    const size_t at = static_cast<size_t>(slot) * model_.hidden;
    copyOut(h, h_.get() + at, model_.hidden);
    copyOut(c, c_.get() + at, model_.hidden);
    check(cudaStreamSynchronize(stream_), "read");
  }

  void write(int slot, const float *h, const float *c) override {
    use();
    const size_t at = static_cast<size_t>(slot) * model_.hidden;
    copyIn(h_.get() + at, h, model_.hidden);
    copyIn(c_.get() + at, c, model_.hidden);
    check(cudaStreamSynchronize(stream_), "write");
  }

  void close() override {
    if (stream_ == nullptr) return;
    cudaSetDevice(card_);
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
    stream_ = nullptr;
    weights_.clear();
    for (Array<float> *array : {&h_, &c_, &nextH_, &nextC_, &input_, &fromInput_, &logits_}) *array = Array<float>();
    for (Array<int> *array : {&tokens_, &best_, &reads_, &writes_}) *array = Array<int>();
  }

 private:
  static constexpr int THREADS = 128;

  void runStep(const Task &task, const Places &places) {
    const Cell &cell = model_.cells[task.cell];
    const Weights &weights = weights_[task.cell];
    const int rows = task.rows, hidden = model_.hidden;
    copyIn(reads_.get(), task.reads, static_cast<size_t>(rows) * cell.reads);
    if (cell.writes) copyIn(writes_.get(), task.writes, rows);
    if (cell.kind == Kind::Linear) {
      gather<<<rows, THREADS, 0, stream_>>>(h_.get(), reads_.get(), nextH_.get(), hidden);
    } else {
      stage(cell, weights, places.input, rows);
      launch(cell, weights, rows);
    }
    if (cell.writes) {
      scatter<<<rows, THREADS, 0, stream_>>>(nextH_.get(), nextC_.get(), writes_.get(), h_.get(), c_.get(), hidden);
    }
    if (cell.classes > 0) {
      product(nextH_.get(), weights.headWeights, weights.headBias, logits_.get(), rows, cell.classes, hidden);
      if (places.token) argmax<<<rows, UNITS, 0, stream_>>>(logits_.get(), best_.get(), cell.classes);
    }
    check(cudaGetLastError(), "launch");
    copyOut(places.h, nextH_.get(), static_cast<size_t>(rows) * hidden);
    copyOut(places.c, nextC_.get(), static_cast<size_t>(rows) * hidden);
    copyOut(places.logits, logits_.get(), static_cast<size_t>(rows) * cell.classes);
    copyOut(places.token, best_.get(), rows);
  }

  /** The current device is a thread's, and other code on it may have changed it. */
  void use() const { check(cudaSetDevice(card_), "cudaSetDevice"); }

  template <typename T>
  void copyIn(T *to, const T *from, size_t count) {
    if (count > 0) check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyHostToDevice, stream_), "copy in");
  }

  template <typename T>
  void copyOut(T *to, const T *from, size_t count) {
    if (to) check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, stream_), "copy out");
  }

  /** Brings a task's input to the device, multiplied where it is no token. */
  void stage(const Cell &cell, const Weights &weights, const void *input, int rows) {
    if (cell.symbols > 0) copyIn(tokens_.get(), static_cast<const int *>(input), rows);
    if (cell.input > 0) {
      copyIn(input_.get(), static_cast<const float *>(input), static_cast<size_t>(rows) * cell.input);
      product(input_.get(), weights.inputWeights, weights.bias, fromInput_.get(), rows, cell.gates() * cell.hidden, cell.input);
    }
    // A cell without input has biases only.
    if (cell.symbols == 0 && cell.input == 0) {
      const size_t bytes = weights.bias.size() * sizeof(float);
      for (int row = 0; row < rows; row++) {
        check(cudaMemcpyAsync(fromInput_.get() + row * weights.bias.size(), weights.bias.get(), bytes, cudaMemcpyDeviceToDevice,
                              stream_),
              "bias");
      }
    }
  }

  void product(const float *x, const Array<float> &weights, const Array<float> &bias, float *out, int rows, int width, int depth) {
    const dim3 grid((width + WARPS - 1) / WARPS, rows);
    dense<<<grid, WARPS * UNITS, 0, stream_>>>(x, weights.get(), bias.get(), out, width, depth);
  }

  void launch(const Cell &cell, const Weights &weights, int rows) {
    Step task;
    task.h = h_.get();
    task.c = c_.get();
    task.reads = reads_.get();
    task.weights = weights.stateWeights.get();
    task.stateBias = weights.stateBias.get();
    task.input = fromInput_.get();
    task.table = cell.symbols > 0 ? weights.table.get() : nullptr;
    task.tokens = tokens_.get();
    task.nextH = nextH_.get();
    task.nextC = nextC_.get();
    task.rows = rows;
    task.hidden = model_.hidden;
    const dim3 grid((model_.hidden + UNITS - 1) / UNITS, (rows + ROWS - 1) / ROWS);
    const int threads = WARPS * UNITS;
    switch (cell.kind) {
      case Kind::Lstm: step<Kind::Lstm, 4, 1><<<grid, threads, 0, stream_>>>(task); break;
      case Kind::Gru: step<Kind::Gru, 3, 1><<<grid, threads, 0, stream_>>>(task); break;
      case Kind::TreeLeaf: step<Kind::TreeLeaf, 3, 0><<<grid, threads, 0, stream_>>>(task); break;
      default: step<Kind::TreeNode, 5, 2><<<grid, threads, 0, stream_>>>(task);
    }
  }

  const Model model_;
  const int card_;
  cudaStream_t stream_ = nullptr;
  std::vector<Weights> weights_;
  /** By slot. */
  Array<float> h_, c_;
  /** By row: what the step gives. */
  Array<float> nextH_, nextC_;
  Array<float> input_, fromInput_, logits_;
  Array<int> tokens_, best_, reads_, writes_;
  std::vector<void *> allocated_;
};

}  // namespace

CudaStatus cudaStatus() {
  CudaStatus status;
  cudaDriverGetVersion(&status.driver);
  cudaRuntimeGetVersion(&status.runtime);
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  status.detail = cudaGetErrorString(error);
  if (status.driver == 0) {
    status.reason = "no-driver";
    return status;
  }
  if (status.driver / 1000 < status.runtime / 1000) {
    status.reason = "driver-too-old";
    return status;
  }
  if (error != cudaSuccess || count == 0) {
    status.reason = "no-device";
    return status;
  }
  status.reason = "arch-unsupported";
  for (int i = 0; i < count; i++) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    status.cards.push_back({properties.name, properties.major, properties.minor, properties.multiProcessorCount,
                            properties.totalGlobalMem});
    // Whether the binary holds code for this card.
    cudaFuncAttributes attributes;
    if (cudaSetDevice(i) == cudaSuccess && cudaFuncGetAttributes(&attributes, scatter) == cudaSuccess) status.reason = "ok";
  }
  return status;
}

std::unique_ptr<Device> openCuda(const Model &model, int card) { return std::make_unique<Cuda>(model, card); }

}  // namespace cellbatch
