// Step graphs on a CPU with wide vectors: operations on the columns of each row, one after the other over a block of rows, so that
// what one writes the next still finds in the cache. Included once per instruction set, behind "cpu.h".
//
//   row 0    | input | state | padded | frames ... | gates | h | c |      one line of `columns` values
//   row 1    | ...

/** Rows that go through the operations together: few enough for their lines to stay in the cache, enough to share weights. */
constexpr int BLOCK_ROWS = 32;
/** Vectors of a product's panel, as many as a unit of an LSTM has gates. */
constexpr int PANEL = 4;
/** Values before the first line, for loads that go past its beginning. */
constexpr int MARGIN = 16;

/** A matrix `[depth, width]` in panels of `PANEL` vectors of columns; the last may have fewer. */
struct PackedMatrix {
  PackedMatrix(const std::vector<float> &matrix, int depth, int width) : values(static_cast<size_t>(depth) * vectors(width) * LANES) {
    float *to = values.get();
    for (int column = 0; column < width; column += PANEL * LANES) {
      const int lanes = std::min(PANEL, vectors(width - column)) * LANES;
      for (int k = 0; k < depth; k++, to += lanes) {
        const float *from = matrix.data() + static_cast<size_t>(k) * width + column;
        std::memcpy(to, from, sizeof(float) * std::min(lanes, width - column));
      }
    }
  }
  static int vectors(int width) { return (width + LANES - 1) / LANES; }
  Aligned values;
};

class CpuProgram final : public Program {
 public:
  explicit CpuProgram(ProgramSpec spec) : spec_(std::move(spec)), stride_((spec_.columns + 2 * LANES - 1) / LANES * LANES), lines_(MARGIN + static_cast<size_t>(BLOCK_ROWS) * stride_) {
    for (Operation &one : spec_.operations) {
      packed_.emplace_back(one.weights, one.depth, one.width);
      adds_.push_back(one.vector.empty());
      vectors_.emplace_back(std::max<size_t>(one.width, one.vector.size()) + 2 * LANES);
      std::copy(one.vector.begin(), one.vector.end(), vectors_.back().get());
      one.weights = {};
    }
  }

  size_t bytes() const override {
    size_t values = lines_.size();
    for (const PackedMatrix &matrix : packed_) values += matrix.values.size();
    return values * sizeof(float);
  }

  void run(int rows, const float *const *inputs, float *const *outputs) override {
    for (int first = 0; first < rows; first += BLOCK_ROWS) {
      const int count = std::min(BLOCK_ROWS, rows - first);
      for (size_t i = 0; i < spec_.inputs.size(); i++) {
        const auto [column, width] = spec_.inputs[i];
        for (int row = 0; row < count; row++)
          std::memcpy(line(row) + column, inputs[i] + static_cast<size_t>(first + row) * width, sizeof(float) * width);
      }
      for (size_t i = 0; i < spec_.operations.size(); i++) apply(i, count);
      for (size_t i = 0; i < spec_.outputs.size(); i++) {
        const auto [column, width] = spec_.outputs[i];
        for (int row = 0; row < count; row++)
          std::memcpy(outputs[i] + static_cast<size_t>(first + row) * width, line(row) + column, sizeof(float) * width);
      }
    }
  }

 private:
  float *line(int row) const { return lines_.get() + MARGIN + static_cast<size_t>(row) * stride_; }

  void apply(size_t at, int rows) {
    const Operation &one = spec_.operations[at];
    switch (one.kind) {
      case Operation::Move: return eachRow(one, rows, [](float *line, const Run &run) {
        const float *from = line + run.from;
        float *to = line + run.to;
        if (run.step == 1) std::memcpy(to, from, sizeof(float) * run.count);
        else for (int i = 0; i < run.count; i++) to[i] = from[i * run.step];
      });
      case Operation::Dense: return dense(one, packed_[at].values.get(), adds_[at] ? nullptr : vectors_[at].get(), rows);
      case Operation::Relu: return unary(one, rows, [](Vector x) { return Vector::max(x, Vector::of(0.0f)); });
      case Operation::Sigmoid: return unary(one, rows, [](Vector x) { return sigmoid(x); });
      case Operation::Tanh: return unary(one, rows, [](Vector x) { return hyperbolicTangent(x); });
      case Operation::Square: return unary(one, rows, [](Vector x) { return x * x; });
      case Operation::Root: return unary(one, rows, [](Vector x) { return x.root(); });
      case Operation::Add: {
        const Vector factor = Vector::of(vectors_[at].get()[0]);
        return binary(one, rows, [factor](Vector a, Vector b) { return Vector::fma(b, factor, a); });
      }
      case Operation::Multiply: return binary(one, rows, [](Vector a, Vector b) { return a * b; });
      case Operation::Scale: return scale(one, vectors_[at].get(), rows);
      case Operation::LstmGates: return gates(one, rows);
    }
  }

  template <typename Each>
  void eachRow(const Operation &one, int rows, Each each) {
    for (int row = 0; row < rows; row++)
      for (const Run &run : one.runs) each(line(row), run);
  }

  /** Loads may go past either end of a run, into what lies beside it; stores do not. */
  template <typename Function>
  void unary(const Operation &one, int rows, Function function) {
    eachRow(one, rows, [&](float *line, const Run &run) {
      for (int i = 0; i < run.count; i += LANES)
        function(Vector::load(line + run.from + i)).storeFirst(line + run.to + i, run.count - i);
    });
  }

  template <typename Function>
  void binary(const Operation &one, int rows, Function function) {
    eachRow(one, rows, [&](float *line, const Run &run) {
      const float *from = line + run.from;
      const float *other = line + run.other;
      float *to = line + run.to;
      for (int i = 0; i < run.count; i += LANES) {
        const Vector second = run.step < 0 ? Vector::loadBackwards(other - i) : Vector::load(other + i);
        function(Vector::load(from + i), second).storeFirst(to + i, run.count - i);
      }
    });
  }

  void scale(const Operation &one, const float *factors, int rows) {
    eachRow(one, rows, [factors](float *line, const Run &run) {
      for (int i = 0; i < run.count; i += LANES)
        (Vector::load(line + run.from + i) * Vector::load(factors + run.other + i)).storeFirst(line + run.to + i, run.count - i);
    });
  }

  /** Gates `[i, o, f, g]` at `from`, the cell state at `other`; the next state, then the next cell state, at `to`. */
  void gates(const Operation &one, int rows) {
    eachRow(one, rows, [](float *line, const Run &run) {
      const int size = run.count;
      const float *from = line + run.from;
      for (int i = 0; i < size; i += LANES) {
        const auto gate = [&](int at) { return Vector::load(from + at * size + i); };
        const Vector kept = sigmoid(gate(2)) * Vector::load(line + run.other + i);
        const Vector c = Vector::fma(sigmoid(gate(0)), hyperbolicTangent(gate(3)), kept);
        c.storeFirst(line + run.to + size + i, size - i);
        (sigmoid(gate(1)) * hyperbolicTangent(c)).storeFirst(line + run.to + i, size - i);
      }
    });
  }

  /** For each run, `count` values at `from` times the matrix's rows from `other` on: to `to`, plus the bias, or what is there where that is null. */
  void dense(const Operation &one, const float *weights, const float *bias, int rows) {
    for (int column = 0; column < one.width; column += PANEL * LANES) {
      const int width = one.width - column;
      withRows<PANEL>(std::min(PANEL, PackedMatrix::vectors(width)), [&](auto vectors) {
        constexpr int VECTORS = decltype(vectors)::value;
        panel<VECTORS>(one, weights, bias == nullptr ? nullptr : bias + column, column, std::min(width, VECTORS * LANES), rows);
        weights += static_cast<size_t>(one.depth) * VECTORS * LANES;
      });
    }
  }

  template <int VECTORS>
  void panel(const Operation &one, const float *weights, const float *bias, int column, int width, int rows) {
    constexpr int BLOCK = Vector::rowsFor(PANEL);
    for (const Run &run : one.runs) {
      for (int first = 0; first < rows; first += BLOCK) {
        withRows<BLOCK>(std::min(BLOCK, rows - first), [&](auto count) {
          constexpr int ROWS = decltype(count)::value;
          const float *x[ROWS];
          Vector sum[ROWS][VECTORS];
          for (int row = 0; row < ROWS; row++) {
            x[row] = line(first + row) + run.from;
            const float *before = bias == nullptr ? line(first + row) + run.to + column : bias;
            for (int at = 0; at < VECTORS; at++) sum[row][at] = Vector::load(before + at * LANES);
          }
          accumulate<ROWS, VECTORS>(sum, x, weights + static_cast<size_t>(run.other) * VECTORS * LANES, run.count);
          for (int row = 0; row < ROWS; row++) {
            float *to = line(first + row) + run.to + column;
            for (int at = 0; at < VECTORS; at++) sum[row][at].storeFirst(to + at * LANES, width - at * LANES);
          }
        });
      }
    }
  }

  ProgramSpec spec_;
  /** Values of a line, with room for loads past its end. */
  const size_t stride_;
  Aligned lines_;
  std::vector<PackedMatrix> packed_;
  /** By operation, padded; a product without one adds to what is there. */
  std::vector<Aligned> vectors_;
  std::vector<bool> adds_;
};
