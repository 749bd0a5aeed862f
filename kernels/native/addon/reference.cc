// The reference device: plain loops with float64 sums, in the order of the weights, one row after the other. The
// oracle of the others, with the same calls and the same memory rules.
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "device.h"

namespace cellbatch {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

class Reference final : public Device {
 public:
  explicit Reference(const Model& model) : model_(model), scratch_(static_cast<size_t>(2) * model.maxBatch * model.hidden) {}

  ~Reference() override {
    for (void* place : allocated_) std::free(place);
  }

  void reserve(int count) override {
    const size_t size = static_cast<size_t>(count) * model_.hidden;
    if (h_.size() >= size) return;
    h_.resize(size);
    c_.resize(size);
  }

  void* allocate(size_t bytes) override {
    void* place = std::calloc(1, bytes > 0 ? bytes : 1);
    if (place == nullptr) throw DeviceError("no memory for " + std::to_string(bytes) + " bytes");
    allocated_.push_back(place);
    return place;
  }

  void run(const Task& task, const Places& places) override {
    stepByStep(task, model_.cells[task.cell], places, [this](const Task& one, const Places& at) { runStep(one, at); });
  }

  void clear(int slot) override {
    std::memset(hOf(slot), 0, sizeof(float) * model_.hidden);
    std::memset(cOf(slot), 0, sizeof(float) * model_.hidden);
  }

  void read(int slot, float* h, float* c) override {
    std::memcpy(h, hOf(slot), sizeof(float) * model_.hidden);
    if (c) std::memcpy(c, cOf(slot), sizeof(float) * model_.hidden);
  }

  void write(int slot, const float* h, const float* c) override {
    std::memcpy(hOf(slot), h, sizeof(float) * model_.hidden);
    std::memcpy(cOf(slot), c, sizeof(float) * model_.hidden);
  }

  void handOver(int from, int to) override { write(to, hOf(from), cOf(from)); }

  void close() override {
    h_ = {};
    c_ = {};
  }

 private:
  void runStep(const Task& task, const Places& places) {
    const Cell& cell = model_.cells[task.cell];
    const int hidden = model_.hidden;
    for (int row = 0; row < task.rows; row++) {
      const int32_t* from = task.reads + static_cast<size_t>(row) * cell.reads;
      float* h = scratch_.data() + static_cast<size_t>(row) * hidden;
      float* c = h + static_cast<size_t>(model_.maxBatch) * hidden;
      if (cell.kind == Kind::Linear) {
        std::memcpy(h, hOf(from[0]), sizeof(float) * hidden);
      } else {
        step(cell, gatesFromInput(cell, places.input, row), from, h, c);
      }
      if (places.h) std::memcpy(places.h + static_cast<size_t>(row) * hidden, h, sizeof(float) * hidden);
      if (places.c) std::memcpy(places.c + static_cast<size_t>(row) * hidden, c, sizeof(float) * hidden);
      if (cell.classes > 0) head(cell, h, places, row);
    }
    if (!cell.writes) return;
    // Rows may read a slot that another row of the task writes: all are read before any is written.
    for (int row = 0; row < task.rows; row++) {
      const float* h = scratch_.data() + static_cast<size_t>(row) * hidden;
      write(task.writes[row], h, h + static_cast<size_t>(model_.maxBatch) * hidden);
    }
  }

  float* hOf(int slot) { return h_.data() + static_cast<size_t>(slot) * model_.hidden; }
  float* cOf(int slot) { return c_.data() + static_cast<size_t>(slot) * model_.hidden; }

  std::vector<double> gatesFromInput(const Cell& cell, const void* input, int row) const {
    const int width = cell.gates() * cell.hidden;
    std::vector<double> gates(width);
    if (cell.symbols > 0) {
      const int32_t token = static_cast<const int32_t*>(input)[row];
      const float* line = cell.table.data() + static_cast<size_t>(token) * width;
      for (int i = 0; i < width; i++) gates[i] = line[i];
      return gates;
    }
    const float* x = static_cast<const float*>(input) + static_cast<size_t>(row) * cell.input;
    for (int i = 0; i < width; i++) {
      double sum = cell.bias[i];
      const float* weights = cell.inputWeights.data() + static_cast<size_t>(i) * cell.input;
      for (int k = 0; k < cell.input; k++) sum += static_cast<double>(weights[k]) * x[k];
      gates[i] = sum;
    }
    return gates;
  }

  /** What gate and unit number `at` gets from the states that are read. */
  double fromState(const Cell& cell, const int32_t* from, int at) {
    const int hidden = model_.hidden;
    double sum = cell.stateBias.empty() ? 0 : cell.stateBias[at];
    const float* weights = cell.stateWeights.data() + static_cast<size_t>(at) * cell.reads * hidden;
    for (int read = 0; read < cell.reads; read++) {
      const float* h = hOf(from[read]);
      for (int k = 0; k < hidden; k++) sum += static_cast<double>(weights[read * hidden + k]) * h[k];
    }
    return sum;
  }

  void step(const Cell& cell, const std::vector<double>& input, const int32_t* from, float* h, float* c) {
    const int hidden = model_.hidden;
    for (int unit = 0; unit < hidden; unit++) {
      double gate[5];
      double state[5] = {0, 0, 0, 0, 0};
      for (int g = 0; g < cell.gates(); g++) {
        const int at = g * hidden + unit;
        if (cell.reads > 0) state[g] = fromState(cell, from, at);
        gate[g] = input[at] + state[g];
      }
      double next = 0;
      switch (cell.kind) {
        case Kind::Lstm:
          next = sigmoid(gate[1]) * cOf(from[0])[unit] + sigmoid(gate[0]) * std::tanh(gate[2]);
          h[unit] = static_cast<float>(sigmoid(gate[3]) * std::tanh(next));
          break;
        case Kind::Gru: {
          const int last = 2 * hidden + unit;
          const double update = sigmoid(gate[1]);
          const double fresh = std::tanh(input[last] + sigmoid(gate[0]) * state[2]);
          h[unit] = static_cast<float>(fresh + update * (hOf(from[0])[unit] - fresh));
          break;
        }
        case Kind::TreeLeaf:
          next = sigmoid(gate[0]) * std::tanh(gate[2]);
          h[unit] = static_cast<float>(sigmoid(gate[1]) * std::tanh(next));
          break;
        default:
          next = sigmoid(gate[0]) * std::tanh(gate[4]) + sigmoid(gate[1]) * cOf(from[0])[unit] +
                 sigmoid(gate[2]) * cOf(from[1])[unit];
          h[unit] = static_cast<float>(sigmoid(gate[3]) * std::tanh(next));
      }
      c[unit] = static_cast<float>(next);
    }
  }

  void head(const Cell& cell, const float* h, const Places& places, int row) {
    int best = 0;
    double most = 0;
    for (int at = 0; at < cell.classes; at++) {
      double sum = cell.headBias[at];
      const float* weights = cell.headWeights.data() + static_cast<size_t>(at) * cell.hidden;
      for (int k = 0; k < cell.hidden; k++) sum += static_cast<double>(weights[k]) * h[k];
      if (at == 0 || sum > most) {
        best = at;
        most = sum;
      }
      if (places.logits) places.logits[static_cast<size_t>(row) * cell.classes + at] = static_cast<float>(sum);
    }
    if (places.token) places.token[row] = best;
  }

  const Model model_;
  std::vector<float> h_, c_;
  /** Next h, then next c, by row. */
  std::vector<float> scratch_;
  std::vector<void*> allocated_;
};

}  // namespace

std::unique_ptr<Device> openReference(const Model& model) { return std::make_unique<Reference>(model); }

}  // namespace cellbatch
