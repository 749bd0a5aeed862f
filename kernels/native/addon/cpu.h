// Cells on a CPU with wide vectors: one pass per step and panel of units, from the states where they lie through the product and
// the activations to the next states; nothing is gathered, copied or written in between. Included once per instruction set,
// with `Vector` defined and in a namespace of its own.
//
//   weights    panel 0: units 0 ... LANES - 1         panel 1 ...
//              k = 0: gate 0 | gate 1 | gate 2 | gate 3      each LANES values, one register
//              k = 1: ...
//
// A block of rows keeps the sums of all gates of a panel in registers, so a unit's activations follow where its sums lie. Sums
// run over k in one order whatever the block, so a row gets the same bits alone and in company.

constexpr int LANES = Vector::LANES;
/** Of the products of frozen states. */
constexpr size_t MOST_FROZEN_BYTES = 64 << 20;

inline Vector exponential(Vector x) {
  // Cephes' expf: x = n ln 2 + r, a polynomial in r, 2 to the power of n.
  x = Vector::max(Vector::min(x, Vector::of(87.0f)), Vector::of(-87.0f));
  const Vector n = (x * Vector::of(1.44269504f)).rounded();
  Vector r = Vector::fma(n, Vector::of(-0.693359375f), x);
  r = Vector::fma(n, Vector::of(2.12194440e-4f), r);
  Vector p = Vector::of(1.9875691500e-4f);
  p = Vector::fma(p, r, Vector::of(1.3981999507e-3f));
  p = Vector::fma(p, r, Vector::of(8.3334519073e-3f));
  p = Vector::fma(p, r, Vector::of(4.1665795894e-2f));
  p = Vector::fma(p, r, Vector::of(1.6666665459e-1f));
  p = Vector::fma(p, r, Vector::of(5.0000001201e-1f));
  p = Vector::fma(p, r * r, r) + Vector::of(1.0f);
  return p * n.powerOfTwo();
}

inline Vector sigmoid(Vector x) {
  return (Vector::of(1.0f) + exponential(Vector::of(0.0f) - x)).reciprocal();
}

inline Vector hyperbolicTangent(Vector x) {
  return Vector::fma(Vector::of(2.0f), sigmoid(x + x), Vector::of(-1.0f));
}

/** A matrix `[gates * units, depth]` in panels, as drawn above. */
class Panels {
 public:
  Panels() = default;
  Panels(const std::vector<float> &matrix, int gates, int units, int depth)
      : panels_((units + LANES - 1) / LANES), stride_(static_cast<size_t>(depth) * gates * LANES), values_(panels_ * stride_) {
    for (int unit = 0; unit < units; unit++) {
      float *panel = values_.get() + unit / LANES * stride_ + unit % LANES;
      for (int k = 0; k < depth; k++) {
        for (int gate = 0; gate < gates; gate++) {
          panel[(static_cast<size_t>(k) * gates + gate) * LANES] =
              matrix[(static_cast<size_t>(gate) * units + unit) * depth + k];
        }
      }
    }
  }
  const float *panel(int at) const { return values_.get() + at * stride_; }
  int count() const { return panels_; }

 private:
  int panels_ = 0;
  size_t stride_ = 0;
  Aligned values_;
};

/** Adds `weights[k] * x[row][k]` for all k. */
template <int ROWS, int GATES>
inline void accumulate(Vector (&sum)[ROWS][GATES], const float *const *x, const float *weights, int depth) {
  for (int k = 0; k < depth; k++) {
    Vector w[GATES];
    for (int gate = 0; gate < GATES; gate++) w[gate] = Vector::load(weights + gate * LANES);
    weights += GATES * LANES;
    for (int row = 0; row < ROWS; row++) {
      const Vector value = Vector::of(x[row][k]);
      for (int gate = 0; gate < GATES; gate++) sum[row][gate] = Vector::fma(w[gate], value, sum[row][gate]);
    }
  }
}

/** Calls `run` with the number of rows as a constant. */
template <int MOST, typename Run>
inline void withRows(int rows, Run run) {
  if constexpr (MOST > 1) {
    if (rows < MOST) return withRows<MOST - 1>(rows, run);
  }
  run(std::integral_constant<int, MOST>());
}

/** Rows `begin ... end - 1` in the order of a task's pass; those of one group are computed in the same way. */
struct Group {
  int begin, end;
  /** By read, a bit: whether its state must be multiplied; what follows from a frozen one is known. */
  unsigned multiplied;
};

struct PackedCell {
  Cell cell;
  /** By read, frozen slot, panel, gate: what the state adds to the gates. */
  Aligned frozen;
  /** By token, then panel, then gate. */
  Aligned table;
  Panels inputWeights, stateWeights, head;
  /** By panel, then gate; and of the head by class, padded. */
  Aligned bias, stateBias, headBias;
};

class Cpu final : public Device {
 public:
  explicit Cpu(const Model &model)
      : model_(model), width_((model.hidden + LANES - 1) / LANES * LANES), pointers_(6 * static_cast<size_t>(model.maxBatch)), order_(model.maxBatch) {
    for (const Cell &cell : model.cells) cells_.push_back(pack(cell));
  }

  ~Cpu() override {
    for (void *place : allocated_) std::free(place);
  }

  void reserve(int count) override {
    const size_t size = 2 * static_cast<size_t>(count) * width_;
    if (h_.size() >= size) return;
    for (Aligned *states : {&h_, &c_}) {
      Aligned grown(size);
      if (states->size() > 0) std::memcpy(grown.get(), states->get(), states->size() * sizeof(float));
      *states = std::move(grown);
    }
    side_.resize(count);
  }

  void *allocate(size_t bytes) override {
    void *place = std::calloc(1, bytes > 0 ? bytes : 1);
    if (place == nullptr) throw DeviceError("no memory for " + std::to_string(bytes) + " bytes");
    allocated_.push_back(place);
    return place;
  }

  void run(const Task &task, const Places &places) override {
    const PackedCell &packed = cells_[task.cell];
    const bool isProjected = task.steps > 1 && packed.cell.input > 0;
    // The inputs of all steps are known: one product reads their weights once.
    if (isProjected) project(packed, task.rows * task.steps, static_cast<const float *>(places.input));
    const float *projected = isProjected ? projected_.get() : nullptr;
    const size_t size = static_cast<size_t>(task.rows) * packed.cell.gates() * width_;
    stepByStep(task, packed.cell, places, [&](const Task &one, const Places &at) {
      runStep(packed, one, at, projected);
      if (isProjected) projected += size;
    });
  }

  size_t freeze(int first, int count) override {
    size_t bytes = 0;
    for (PackedCell &packed : cells_) {
      if (packed.cell.kind != Kind::TreeNode) continue;
      const size_t size = static_cast<size_t>(packed.cell.reads) * count * packed.cell.gates() * width_ * sizeof(float);
      if (bytes + size > MOST_FROZEN_BYTES) continue;
      multiplyFrozen(packed, first, count);
      bytes += size;
    }
    if (bytes == 0) return 0;
    firstFrozen_ = first;
    frozenCount_ = count;
    return bytes;
  }

  void clear(int slot) override {
    std::memset(now(h_, slot), 0, sizeof(float) * width_);
    std::memset(now(c_, slot), 0, sizeof(float) * width_);
  }

  void read(int slot, float *h, float *c) override {
    std::memcpy(h, now(h_, slot), sizeof(float) * model_.hidden);
    if (c) std::memcpy(c, now(c_, slot), sizeof(float) * model_.hidden);
  }

  void handOver(int from, int to) override { write(to, now(h_, from), now(c_, from)); }

  void write(int slot, const float *h, const float *c) override {
    std::memcpy(now(h_, slot), h, sizeof(float) * model_.hidden);
    std::memcpy(now(c_, slot), c, sizeof(float) * model_.hidden);
  }

  void close() override {
    cells_.clear();
    h_ = Aligned();
    c_ = Aligned();
    projected_ = Aligned();
  }

 private:
  /** `projected` holds what the inputs add to the gates, by row and panel, where that is known; else null. */
  void runStep(const PackedCell &packed, const Task &task, const Places &places, const float *projected) {
    const Cell &cell = packed.cell;
    switch (cell.kind) {
      case Kind::Lstm: step<Kind::Lstm, 4, 4>(packed, task, places, projected); break;
      case Kind::Gru: step<Kind::Gru, 3, 4>(packed, task, places, projected); break;
      case Kind::TreeLeaf: step<Kind::TreeLeaf, 3, 3>(packed, task, places, projected); break;
      case Kind::TreeNode: step<Kind::TreeNode, 5, 5>(packed, task, places, projected); break;
      default: break;
    }
    const int hidden = model_.hidden;
    if (cell.writes) {
      for (int row = 0; row < task.rows; row++) side_[task.writes[row]] ^= 1;
    }
    const int32_t *slots = cell.writes ? task.writes : task.reads;
    for (int row = 0; row < task.rows && places.h; row++) {
      std::memcpy(places.h + static_cast<size_t>(row) * hidden, now(h_, slots[row]), sizeof(float) * hidden);
    }
    for (int row = 0; row < task.rows && places.c; row++) {
      std::memcpy(places.c + static_cast<size_t>(row) * hidden, now(c_, slots[row]), sizeof(float) * hidden);
    }
    if (cell.classes > 0) head(packed, slots, task.rows, places);
  }

  /**
   * A slot has two places for its state: a task reads one and writes the other, so that rows may read what others write, and a
   * panel may be written while the next one still reads the step before.
   */
  float *now(const Aligned &states, int slot) const {
    return states.get() + (2 * static_cast<size_t>(slot) + side_[slot]) * width_;
  }
  float *next(const Aligned &states, int slot) const {
    return states.get() + (2 * static_cast<size_t>(slot) + (side_[slot] ^ 1)) * width_;
  }

  /** Values by gate and unit to panels with all gates of their units. */
  static void packBias(const float *from, int gates, int units, float *to) {
    for (int unit = 0; unit < units; unit++) {
      for (int gate = 0; gate < gates; gate++) {
        to[(static_cast<size_t>(unit / LANES) * gates + gate) * LANES + unit % LANES] = from[gate * units + unit];
      }
    }
  }

  PackedCell pack(const Cell &cell) const {
    PackedCell packed;
    const int gates = cell.gates(), hidden = cell.hidden;
    const size_t line = static_cast<size_t>(width_) * gates;
    if (cell.symbols > 0) {
      packed.table = Aligned(line * cell.symbols);
      for (int token = 0; token < cell.symbols; token++) {
        packBias(cell.table.data() + static_cast<size_t>(token) * gates * hidden, gates, hidden, packed.table.get() + token * line);
      }
    } else if (gates > 0) {
      packed.bias = Aligned(line);
      packBias(cell.bias.data(), gates, hidden, packed.bias.get());
    }
    if (cell.input > 0) packed.inputWeights = Panels(cell.inputWeights, gates, hidden, cell.input);
    if (cell.reads > 0 && gates > 0) packed.stateWeights = Panels(cell.stateWeights, gates, hidden, cell.reads * hidden);
    if (!cell.stateBias.empty()) {
      packed.stateBias = Aligned(line);
      packBias(cell.stateBias.data(), gates, hidden, packed.stateBias.get());
    }
    if (cell.classes > 0) {
      // Classes stand in panels like units of a cell with one gate.
      packed.head = Panels(cell.headWeights, 1, cell.classes, hidden);
      packed.headBias = Aligned((cell.classes + LANES - 1) / LANES * LANES);
      std::memcpy(packed.headBias.get(), cell.headBias.data(), sizeof(float) * cell.classes);
    }
    // What was packed is not kept twice.
    packed.cell = cell;
    for (std::vector<float> *values : {&packed.cell.table, &packed.cell.inputWeights, &packed.cell.bias, &packed.cell.stateWeights,
                                       &packed.cell.stateBias, &packed.cell.headWeights, &packed.cell.headBias}) {
      *values = {};
    }
    return packed;
  }

  /** The products of the states of frozen slots with the weights of a tree's node, in the order of sums that a step has. */
  void multiplyFrozen(PackedCell &packed, int first, int count) {
    constexpr int GATES = 5, BLOCK = Vector::rowsFor(GATES);
    const int hidden = model_.hidden, reads = packed.cell.reads;
    const size_t line = static_cast<size_t>(width_) * GATES;
    packed.frozen = Aligned(static_cast<size_t>(reads) * count * line);
    for (int read = 0; read < reads; read++) {
      for (int begin = 0; begin < count; begin += BLOCK) {
        withRows<BLOCK>(std::min(BLOCK, count - begin), [&](auto block) {
          constexpr int ROWS = decltype(block)::value;
          const float *from[ROWS];
          for (int row = 0; row < ROWS; row++) from[row] = now(h_, first + begin + row);
          for (int panel = 0; panel * LANES < hidden; panel++) {
            Vector sum[ROWS][GATES];
            for (auto &of : sum)
              for (Vector &gate : of) gate = Vector::of(0.0f);
            const float *weights = packed.stateWeights.panel(panel) + static_cast<size_t>(read) * hidden * GATES * LANES;
            accumulate<ROWS, GATES>(sum, from, weights, hidden);
            for (int row = 0; row < ROWS; row++) {
              float *to = packed.frozen.get() + (static_cast<size_t>(read) * count + begin + row) * line + panel * GATES * LANES;
              for (int gate = 0; gate < GATES; gate++) sum[row][gate].store(to + gate * LANES);
            }
          }
        });
      }
    }
  }

  bool isFrozen(const PackedCell &packed, int slot) const {
    return packed.frozen.size() > 0 && slot >= firstFrozen_ && slot < firstFrozen_ + frozenCount_;
  }

  /** Fills `order_` and `groups_`: the rows of a task, those side by side that need the same products. */
  void group(const PackedCell &packed, const Task &task) {
    const int reads = packed.cell.reads;
    const unsigned all = (1u << reads) - 1;
    groups_.clear();
    if (packed.frozen.size() == 0) {
      for (int row = 0; row < task.rows; row++) order_[row] = row;
      groups_.push_back({0, task.rows, all});
      return;
    }
    int at = 0;
    for (unsigned multiplied = all + 1; multiplied-- > 0;) {
      const int begin = at;
      for (int row = 0; row < task.rows; row++) {
        unsigned needed = 0;
        for (int read = 0; read < reads; read++) needed |= static_cast<unsigned>(!isFrozen(packed, task.reads[row * reads + read])) << read;
        if (needed == multiplied) order_[at++] = row;
      }
      if (at > begin) groups_.push_back({begin, at, multiplied});
    }
  }

  /** `SUMS` is `GATES`, and one more for a GRU, whose last gate keeps what comes from the input apart from the state's. */
  template <Kind KIND, int GATES, int SUMS>
  void step(const PackedCell &packed, const Task &task, const Places &places, const float *projected) {
    const Cell &cell = packed.cell;
    const int hidden = model_.hidden, reads = cell.reads, rows = task.rows;
    // Where a row's states and input are, and where the next ones go.
    const float **const hOf = pointers_.data();
    const float **const cOf = hOf + 2 * rows;
    const float **const given = hOf + 4 * rows;
    const float **const x = hOf + 5 * rows;
    group(packed, task);
    for (int at = 0; at < rows; at++) {
      const int row = order_[at];
      for (int read = 0; read < reads; read++) {
        const int slot = task.reads[row * reads + read];
        // Of a frozen slot, what it adds to the gates instead.
        hOf[read * rows + at] = isFrozen(packed, slot) ? packed.frozen.get() + (static_cast<size_t>(read) * frozenCount_ + slot - firstFrozen_) * width_ * GATES
                                                       : now(h_, slot);
        cOf[read * rows + at] = now(c_, slot);
      }
      const size_t token = cell.symbols > 0 ? static_cast<const int32_t *>(places.input)[row] : 0;
      given[at] = projected         ? projected + static_cast<size_t>(row) * width_ * GATES
                  : cell.symbols > 0 ? packed.table.get() + token * width_ * GATES
                                     : packed.bias.get();
      x[at] = cell.input > 0 ? static_cast<const float *>(places.input) + static_cast<size_t>(row) * cell.input : nullptr;
    }
    constexpr int BLOCK = Vector::rowsFor(SUMS);
    for (int panel = 0; panel * LANES < hidden; panel++) {
      for (const Group &rowsAlike : groups_) for (int first = rowsAlike.begin; first < rowsAlike.end; first += BLOCK) {
        withRows<BLOCK>(std::min(BLOCK, rowsAlike.end - first), [&](auto count) {
          constexpr int ROWS = decltype(count)::value;
          Vector sum[ROWS][GATES];
          for (int row = 0; row < ROWS; row++) {
            const float *from = given[first + row] + static_cast<size_t>(panel) * GATES * LANES;
            for (int gate = 0; gate < GATES; gate++) sum[row][gate] = Vector::load(from + gate * LANES);
          }
          if (cell.input > 0 && !projected) accumulate<ROWS, GATES>(sum, x + first, packed.inputWeights.panel(panel), cell.input);
          Vector fromInput[KIND == Kind::Gru ? ROWS : 1];
          if constexpr (KIND == Kind::Gru) {
            const float *bias = packed.stateBias.get() + static_cast<size_t>(panel) * GATES * LANES;
            for (int row = 0; row < ROWS; row++) {
              fromInput[row] = sum[row][2];
              sum[row][2] = Vector::load(bias + 2 * LANES);
            }
          }
          for (int read = 0; read < reads; read++) {
            if (rowsAlike.multiplied >> read & 1) {
              const float *weights = packed.stateWeights.panel(panel) + static_cast<size_t>(read) * hidden * GATES * LANES;
              accumulate<ROWS, GATES>(sum, hOf + read * rows + first, weights, hidden);
              continue;
            }
            for (int row = 0; row < ROWS; row++) {
              const float *from = hOf[read * rows + first + row] + static_cast<size_t>(panel) * GATES * LANES;
              for (int gate = 0; gate < GATES; gate++) sum[row][gate] = sum[row][gate] + Vector::load(from + gate * LANES);
            }
          }
          for (int row = 0; row < ROWS; row++) {
            const int at = panel * LANES;
            const int slot = task.writes[order_[first + row]];
            if constexpr (KIND == Kind::Gru) {
              const Vector before = Vector::load(hOf[first + row] + at);
              const Vector fresh = hyperbolicTangent(Vector::fma(sigmoid(sum[row][0]), sum[row][2], fromInput[row]));
              Vector::fma(sigmoid(sum[row][1]), before - fresh, fresh).store(next(h_, slot) + at);
              continue;
            }
            const auto cBefore = [&](int read) { return Vector::load(cOf[read * rows + first + row] + at); };
            Vector c, output;
            if constexpr (KIND == Kind::Lstm) {
              c = Vector::fma(sigmoid(sum[row][1]), cBefore(0), sigmoid(sum[row][0]) * hyperbolicTangent(sum[row][2]));
              output = sum[row][3];
            } else if constexpr (KIND == Kind::TreeLeaf) {
              c = sigmoid(sum[row][0]) * hyperbolicTangent(sum[row][2]);
              output = sum[row][1];
            } else {
              c = sigmoid(sum[row][0]) * hyperbolicTangent(sum[row][GATES - 1]);
              c = Vector::fma(sigmoid(sum[row][1]), cBefore(0), c);
              c = Vector::fma(sigmoid(sum[row][2]), cBefore(1), c);
              output = sum[row][GATES - 2];
            }
            c.store(next(c_, slot) + at);
            (sigmoid(output) * hyperbolicTangent(c)).store(next(h_, slot) + at);
          }
        });
      }
    }
  }

  /** Fills `projected_`, `[rows, panels, gates]`, in the order of sums that a single step has. */
  void project(const PackedCell &packed, int rows, const float *x) {
    const size_t size = static_cast<size_t>(rows) * packed.cell.gates() * width_;
    if (projected_.size() < size) projected_ = Aligned(size);
    if (packed.cell.gates() == 4) projectGates<4>(packed, rows, x);
    else projectGates<3>(packed, rows, x);
  }

  template <int GATES>
  void projectGates(const PackedCell &packed, int rows, const float *x) {
    constexpr int BLOCK = Vector::rowsFor(GATES);
    const float **const from = pointers_.data();
    for (int row = 0; row < rows; row++) from[row] = x + static_cast<size_t>(row) * packed.cell.input;
    for (int panel = 0; panel < packed.inputWeights.count(); panel++) {
      const float *bias = packed.bias.get() + static_cast<size_t>(panel) * GATES * LANES;
      for (int first = 0; first < rows; first += BLOCK) {
        withRows<BLOCK>(std::min(BLOCK, rows - first), [&](auto count) {
          constexpr int ROWS = decltype(count)::value;
          Vector sum[ROWS][GATES];
          for (int row = 0; row < ROWS; row++) {
            for (int gate = 0; gate < GATES; gate++) sum[row][gate] = Vector::load(bias + gate * LANES);
          }
          accumulate<ROWS, GATES>(sum, from + first, packed.inputWeights.panel(panel), packed.cell.input);
          for (int row = 0; row < ROWS; row++) {
            float *to = projected_.get() + (static_cast<size_t>(first + row) * width_ + panel * LANES) * GATES;
            for (int gate = 0; gate < GATES; gate++) sum[row][gate].store(to + gate * LANES);
          }
        });
      }
    }
  }

  void head(const PackedCell &packed, const int32_t *slots, int rows, const Places &places) {
    const Cell &cell = packed.cell;
    constexpr int BLOCK = 2 * Vector::rowsFor(4);
    const float **const x = pointers_.data();
    for (int row = 0; row < rows; row++) x[row] = now(h_, slots[row]);
    for (int first = 0; first < rows; first += BLOCK) {
      withRows<BLOCK>(std::min(BLOCK, rows - first), [&](auto count) {
        constexpr int ROWS = decltype(count)::value;
        float most[ROWS] = {};
        int best[ROWS] = {};
        for (int panel = 0; panel < packed.head.count(); panel++) {
          Vector sum[ROWS][1];
          for (int row = 0; row < ROWS; row++) sum[row][0] = Vector::load(packed.headBias.get() + panel * LANES);
          accumulate<ROWS, 1>(sum, x + first, packed.head.panel(panel), cell.hidden);
          const int there = std::min(LANES, cell.classes - panel * LANES);
          for (int row = 0; row < ROWS; row++) {
            float logits[LANES];
            sum[row][0].store(logits);
            if (places.logits) {
              float *to = places.logits + static_cast<size_t>(first + row) * cell.classes + panel * LANES;
              std::memcpy(to, logits, sizeof(float) * there);
            }
            for (int lane = 0; lane < there; lane++) {
              if ((panel > 0 || lane > 0) && !(logits[lane] > most[row])) continue;
              most[row] = logits[lane];
              best[row] = panel * LANES + lane;
            }
          }
        }
        for (int row = 0; row < ROWS && places.token; row++) places.token[first + row] = best[row];
      });
    }
  }

  const Model model_;
  /** Values of a state with padding. */
  const int width_;
  std::vector<PackedCell> cells_;
  /** By slot: two states. */
  Aligned h_, c_;
  std::vector<uint8_t> side_;
  /** What the inputs of several steps add to the gates. */
  Aligned projected_;
  std::vector<const float *> pointers_;
  int firstFrozen_ = 0, frozenCount_ = 0;
  /** Rows of a task in the order of its pass, and its groups. */
  std::vector<int> order_;
  std::vector<Group> groups_;
  std::vector<void *> allocated_;
};
