// Cells on a CUDA device. States, weights and tables stay there; inputs and outputs are pinned memory of the host. A task is one
// sequence of copies and kernels for all its steps, which is waited for once and, when it comes again, is one graph.
#include <algorithm>
#include <array>
#include <map>

#include "barrier.cuh"
#include "large.cuh"
#include "slots.cuh"

namespace cellbatch {
namespace {

constexpr int THREADS = 128;

class Cuda final : public Device {
 public:
  Cuda(const Model &model, const CudaChoice &choice)
      : model_(model), card_(choice.card), room_(roomOf(model)), arithmetic_((use(), arithmeticFor(choice, model))),
        lowState_(arithmetic_->lowBytes(model.hidden)), staged_(4 * room_.rows), draws_(room_.rows) {
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
    for (const Cell &cell : model.cells) weights_.push_back(arithmetic_->load(cell));
    const size_t rows = room_.rows;
    nextH_ = Array<float>(rows * model.hidden);
    nextC_ = Array<float>(rows * model.hidden);
    nextLow_ = Array<unsigned char>(rows * lowState_);
    input_ = Array<float>(rows * room_.inputs);
    lowInput_ = Array<unsigned char>(rows * arithmetic_->lowBytes(room_.inputs));
    fromInput_ = Array<float>(rows * room_.gates * model.hidden);
    size_t parts = 0;
    for (const Cell &cell : model.cells) {
      logits_.push_back(Array<float>(rows * cell.classes));
      parts = std::max<size_t>(parts, arithmetic_->likeliestParts(cell.classes));
    }
    found_ = Array<Choice>(rows * parts);
    headsArrived_ = Array<unsigned>(rows);
    tokens_ = Array<int>(rows);
    chosen_ = Array<int>(rows);
    places_ = Array<int>(3 * rows);
    deviceDraws_ = Array<Draw>(rows);
    arrived_ = Array<unsigned>(1);
  }

  ~Cuda() override {
    close();
    for (void *place : allocated_) cudaFreeHost(place);
  }

  void reserve(int count) override {
    use();
    const size_t size = static_cast<size_t>(count) * model_.hidden;
    if (h_.size() >= size) return;
    check(cudaStreamSynchronize(stream_), "reserve");
    forgetGraphs();
    h_.grow(size);
    c_.grow(size);
    low_.grow(count * lowState_);
  }

  void *allocate(size_t bytes) override {
    use();
    void *place;
    check(cudaHostAlloc(&place, bytes, cudaHostAllocDefault), "cudaHostAlloc");
    allocated_.push_back(place);
    return place;
  }

  bool drawsTokens() const override { return true; }
  int productLibrary() const override { return arithmetic_ ? arithmetic_->productLibrary() : 0; }

  void run(const Task &task, const Places &places) override {
    use();
    const Cell &cell = model_.cells[task.cell];
    if (cell.reads == 1 && cell.writes) runTask(task, places);
    else stepByStep(task, cell, places, [this](const Task &one, const Places &at) { runTask(one, at); });
  }

  void clear(int slot) override {
    use();
    const size_t at = static_cast<size_t>(slot) * model_.hidden, bytes = model_.hidden * sizeof(float);
    check(cudaMemsetAsync(h_.get() + at, 0, bytes, stream_), "clear");
    check(cudaMemsetAsync(c_.get() + at, 0, bytes, stream_), "clear");
    if (lowState_ > 0) check(cudaMemsetAsync(low_.get() + slot * lowState_, 0, lowState_, stream_), "clear");
  }

  void read(int slot, float *h, float *c) override {
    use();
    const size_t at = static_cast<size_t>(slot) * model_.hidden;
    copy(h, h_.get() + at, model_.hidden, cudaMemcpyDeviceToHost);
    if (c) copy(c, c_.get() + at, model_.hidden, cudaMemcpyDeviceToHost);
  }

  void readLogits(int cell, int at, float *to) override {
    use();
    const size_t classes = model_.cells[cell].classes;
    copy(to, logits_[cell].get() + at * classes, classes, cudaMemcpyDeviceToHost);
  }

  void settle() override { check(cudaStreamSynchronize(stream_), "read"); }

  void write(int slot, const float *h, const float *c) override {
    use();
    const size_t at = static_cast<size_t>(slot) * model_.hidden;
    copy(h_.get() + at, h, model_.hidden, cudaMemcpyHostToDevice);
    copy(c_.get() + at, c, model_.hidden, cudaMemcpyHostToDevice);
    lowerSlot(slot);
  }

  void handOver(int from, int to) override {
    use();
    const size_t source = static_cast<size_t>(from) * model_.hidden, target = static_cast<size_t>(to) * model_.hidden;
    copy(h_.get() + target, h_.get() + source, model_.hidden, cudaMemcpyDeviceToDevice);
    copy(c_.get() + target, c_.get() + source, model_.hidden, cudaMemcpyDeviceToDevice);
    lowerSlot(to);
  }

  void close() override {
    if (stream_ == nullptr) return;
    cudaSetDevice(card_);
    cudaStreamSynchronize(stream_);
    forgetGraphs();
    cudaStreamDestroy(stream_);
    stream_ = nullptr;
    arithmetic_.reset();
    weights_.clear();
    logits_.clear();
    for (Array<float> *array : {&h_, &c_, &nextH_, &nextC_, &input_, &fromInput_}) *array = Array<float>();
    for (Array<int> *array : {&tokens_, &chosen_, &places_}) *array = Array<int>();
    for (Array<unsigned char> *array : {&low_, &nextLow_, &lowInput_}) *array = Array<unsigned char>();
    deviceDraws_ = Array<Draw>();
    found_ = Array<Choice>();
    arrived_ = Array<unsigned>();
    headsArrived_ = Array<unsigned>();
  }

 private:
  /** Most of anything that a cell has. */
  struct Room {
    size_t rows = 0, gates = 0, inputs = 0;
  };

  struct Repeated {
    int times = 0;
    cudaGraphExec_t graph = nullptr;
  };
  /** What a task's sequence depends on. */
  using Key = std::array<size_t, 10>;
  static constexpr size_t MOST_GRAPHS = 512;

  static Room roomOf(const Model &model) {
    Room room;
    room.rows = model.maxBatch;
    for (const Cell &cell : model.cells) {
      room.gates = std::max<size_t>(room.gates, cell.gates());
      room.inputs = std::max<size_t>(room.inputs, cell.input);
    }
    return room;
  }

  /** The current device is a thread's, and other code on it may have changed it. */
  void use() const { check(cudaSetDevice(card_), "cudaSetDevice"); }

  template <typename T>
  void copy(T *to, const T *from, size_t count, cudaMemcpyKind kind) {
    if (count > 0 && to) check(cudaMemcpyAsync(to, from, count * sizeof(T), kind, stream_), "copy");
  }

  void lowerSlot(int slot) {
    if (lowState_ == 0) return;
    const size_t at = static_cast<size_t>(slot) * model_.hidden;
    arithmetic_->lowerStates(h_.get() + at, low_.get() + slot * lowState_, 1, model_.hidden, stream_);
  }

  void forgetGraphs() {
    for (auto &[key, repeated] : graphs_) {
      if (repeated.graph) cudaGraphExecDestroy(repeated.graph);
    }
    graphs_.clear();
  }

  void runTask(const Task &task, const Places &places) {
    const Cell &cell = model_.cells[task.cell];
    // The sequence, which may be a graph, reads where a task is, not the task.
    std::copy_n(task.reads, static_cast<size_t>(task.rows) * cell.reads, staged_.get());
    if (cell.writes) std::copy_n(task.writes, task.rows, staged_.get() + 2 * room_.rows);
    if (task.draws) std::copy_n(task.draws, task.rows, draws_.get());
    const auto address = [](const void *at) { return reinterpret_cast<size_t>(at); };
    const Key key = {static_cast<size_t>(task.cell), static_cast<size_t>(task.rows), static_cast<size_t>(task.steps),
                     address(places.input), address(places.h), address(places.c), address(places.logits), address(places.token),
                     task.draws != nullptr, task.keepsLogits};
    const auto found = graphs_.find(key);
    Repeated *repeated = found != graphs_.end() ? &found->second : graphs_.size() < MOST_GRAPHS ? &graphs_[key] : nullptr;
    // What comes once is not worth a graph.
    if (!repeated || repeated->times++ == 0) {
      sequence(task, places);
    } else {
      if (!repeated->graph) repeated->graph = capture(task, places);
      check(cudaGraphLaunch(repeated->graph, stream_), "graph");
    }
    check(cudaStreamSynchronize(stream_), "step");
  }

  cudaGraphExec_t capture(const Task &task, const Places &places) {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    sequence(task, places);
    cudaGraph_t graph;
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    cudaGraphExec_t instance;
    const cudaError_t error = cudaGraphInstantiate(&instance, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "graph");
    return instance;
  }

  void sequence(const Task &task, const Places &places) {
    const Cell &cell = model_.cells[task.cell];
    const Weights &weights = weights_[task.cell];
    const int rows = task.rows, all = rows * task.steps, hidden = model_.hidden;
    copy(places_.get(), staged_.get(), static_cast<size_t>(rows) * cell.reads, cudaMemcpyHostToDevice);
    if (cell.writes) copy(writes(), staged_.get() + 2 * room_.rows, rows, cudaMemcpyHostToDevice);
    if (cell.kind == Kind::Linear) {
      launch(gather, dim3(rows), THREADS, 0, stream_, floats(h_), ints(places_), nextH_.get(), hidden);
      if (lowState_ > 0) arithmetic_->lowerStates(nextH_.get(), nextLow_.get(), rows, hidden, stream_);
    } else {
      stage(cell, weights, places.input, all);
      steps(cell, weights, rows, task.steps);
    }
    if (cell.writes) scatterLast(rows, task.steps);
    if (cell.classes > 0 && (places.logits || places.token)) {
      float *logits = logits_[task.cell].get();
      const bool isLikeliest = places.token && !task.draws;
      if (!isLikeliest || !likeliest(task, cell, weights, places.logits || task.keepsLogits ? logits : nullptr)) {
        arithmetic_->head(cell, weights, nextH_.get(), nextLow_.get(), logits, all, stream_);
        if (places.token) choose(task, cell);
      }
    }
    check(cudaGetLastError(), "launch");
    copy(places.h, nextH_.get(), static_cast<size_t>(all) * hidden, cudaMemcpyDeviceToHost);
    copy(places.c, nextC_.get(), static_cast<size_t>(all) * hidden, cudaMemcpyDeviceToHost);
    copy(places.logits, logits_[task.cell].get(), static_cast<size_t>(all) * cell.classes, cudaMemcpyDeviceToHost);
    if (cell.classes > 0) copy(places.token, chosen_.get(), all, cudaMemcpyDeviceToHost);
  }

  /** Brings a task's inputs to the device, multiplied where they are no tokens. */
  void stage(const Cell &cell, const Weights &weights, const void *input, int rows) {
    if (cell.symbols > 0) {
      copy(tokens_.get(), static_cast<const int *>(input), rows, cudaMemcpyHostToDevice);
    } else if (cell.input > 0) {
      copy(input_.get(), static_cast<const float *>(input), static_cast<size_t>(rows) * cell.input, cudaMemcpyHostToDevice);
      arithmetic_->input(cell, weights, input_.get(), lowInput_.get(), fromInput_.get(), rows, stream_);
    } else {
      launch(repeat, dim3(rows), THREADS, 0, stream_, floats(weights.bias), fromInput_.get(), cell.gates() * cell.hidden);
    }
  }

  void steps(const Cell &cell, const Weights &weights, int rows, int count) {
    Step step;
    step.h = h_.get();
    step.c = c_.get();
    step.reads = places_.get();
    step.stateBias = weights.stateBias.get();
    step.input = cell.symbols > 0 ? nullptr : fromInput_.get();
    step.table = cell.symbols > 0 ? weights.table.get() : nullptr;
    step.tokens = tokens_.get();
    step.nextH = nextH_.get();
    step.nextC = nextC_.get();
    step.rows = rows;
    step.hidden = model_.hidden;
    const unsigned char *low = low_.get();
    unsigned char *nextLow = nextLow_.get();
    if (count > 1 && arithmetic_->steps(cell, weights, step, low, nextLow, count, arrived_.get(), stream_)) return;
    const size_t states = static_cast<size_t>(rows) * model_.hidden;
    for (int done = 0; done < count; done++) {
      arithmetic_->step(cell, weights, step, low, nextLow, stream_);
      step.reads = nullptr;
      step.h = step.nextH;
      step.c = step.nextC;
      step.nextH += states;
      step.nextC += states;
      if (step.input) step.input += states * cell.gates();
      step.tokens += rows;
      low = nextLow;
      nextLow += rows * lowState_;
    }
  }

  void scatterLast(int rows, int steps) {
    const size_t first = static_cast<size_t>(rows) * (steps - 1);
    const Scattered task = {nextH_.get() + first * model_.hidden,
                            nextC_.get() + first * model_.hidden,
                            reinterpret_cast<const uint4 *>(nextLow_.get() + first * lowState_),
                            h_.get(),
                            c_.get(),
                            reinterpret_cast<uint4 *>(low_.get()),
                            writes(),
                            model_.hidden,
                            static_cast<int>(lowState_ / sizeof(uint4))};
    launch(scatter, dim3(rows), THREADS, 0, stream_, task);
  }

  bool likeliest(const Task &task, const Cell &cell, const Weights &weights, float *logits) {
    const Likeliest to = {found_.get(), headsArrived_.get(), chosen_.get()};
    return arithmetic_->likeliest(cell, weights, nextH_.get(), nextLow_.get(), logits, to, task.rows * task.steps, stream_);
  }

  void choose(const Task &task, const Cell &cell) {
    const Draw *draws = task.draws ? deviceDraws_.get() : nullptr;
    const size_t first = task.draws ? static_cast<size_t>(task.steps - 1) * task.rows : 0;
    const int rows = static_cast<int>(static_cast<size_t>(task.rows) * task.steps - first);
    if (task.draws) copy(deviceDraws_.get(), static_cast<const Draw *>(draws_.get()), rows, cudaMemcpyHostToDevice);
    launch(chooseTokens, dim3(rows), TOKEN_THREADS, 0, stream_, floats(logits_[task.cell]) + first * cell.classes, draws,
           chosen_.get() + first, cell.classes);
  }

  static const float *floats(const Array<float> &array) { return array.get(); }
  static const int *ints(const Array<int> &array) { return array.get(); }
  int *writes() const { return places_.get() + 2 * room_.rows; }

  const Model model_;
  const int card_;
  const Room room_;
  std::unique_ptr<Arithmetic> arithmetic_;
  /** Bytes of a state as tensor cores read it. */
  const size_t lowState_;
  cudaStream_t stream_ = nullptr;
  std::vector<Weights> weights_;
  /** By slot; `low_` is `h_` in the numbers of tensor cores. */
  Array<float> h_, c_;
  Array<unsigned char> low_;
  /** By step and row: what the steps give. */
  Array<float> nextH_, nextC_;
  Array<unsigned char> nextLow_;
  Array<float> input_, fromInput_;
  /** By cell. */
  std::vector<Array<float>> logits_;
  Array<unsigned char> lowInput_;
  /** `places_`: slots that are read, then those that are written. */
  Array<int> tokens_, chosen_, places_;
  Array<Draw> deviceDraws_;
  /** By row and block of a head. */
  Array<Choice> found_;
  Array<unsigned> arrived_, headsArrived_;
  /** As `places_`, on the host. */
  Pinned<int> staged_;
  Pinned<Draw> draws_;
  std::map<Key, Repeated> graphs_;
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

double cudaBarrierUs(int card, int blocks, int times) { return barrierUs(card, blocks, times); }

std::unique_ptr<Device> openCuda(const Model &model, const CudaChoice &choice) {
  return std::make_unique<Cuda>(model, choice);
}

}  // namespace cellbatch
