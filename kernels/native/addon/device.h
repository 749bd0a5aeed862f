// What the addon runs cells on: a CPU with wide vectors, a CUDA device, or plain C++. All compute the same cells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace cellbatch {

enum class Kind : int32_t { Lstm, Gru, TreeLeaf, TreeNode, Linear };

/**
 * A cell: `gates = fromInput(row) + stateWeights * [h of the slots it reads]`, then what the kind does with them. Matrices are
 * row-major, one row per gate and unit, gates in PyTorch's order (LSTM i, f, g, o; GRU r, z, n; leaf i, o, u; node i, f_left,
 * f_right, o, u). `fromInput` is a row of `table` where the input is a token, else `inputWeights * x + bias`.
 */
struct Cell {
  Kind kind;
  int hidden = 0;
  /** Slots that a row reads. */
  int reads = 0;
  bool writes = false;
  /** Values of one row's input; 0 where it is a token or there is none. */
  int input = 0;
  /** Kinds of tokens; 0 where the input is no token. */
  int symbols = 0;
  std::vector<float> table, inputWeights, bias, stateWeights;
  /** Added to the state's product, as a GRU's last gate needs it; empty elsewhere. */
  std::vector<float> stateBias;
  /** Width of the linear layer on h; 0 where there is none. */
  int classes = 0;
  std::vector<float> headWeights, headBias;

  int gates() const {
    switch (kind) {
      case Kind::Lstm: return 4;
      case Kind::Gru: return 3;
      case Kind::TreeLeaf: return 3;
      case Kind::TreeNode: return 5;
      default: return 0;
    }
  }
};

struct Model {
  int hidden = 0;
  /** Most rows of one task. */
  int maxBatch = 0;
  std::vector<Cell> cells;
};

/** What a GPU's tensor cores multiply; sums, activations and states are float32 with all of them. */
enum class Numbers : int32_t { Fp32, Tf32, Bf16 };

struct CudaChoice {
  int card = 0;
  Numbers numbers = Numbers::Fp32;
  /** Products of this many rows and more are left to cuBLASLt, where it is there; 0 for none. */
  int libraryRows = 0;
  /** Its file, or empty for that of this version of CUDA. */
  std::string library;
};

/** How a row's token is drawn from its logits. */
struct Draw {
  /** 0: the likeliest is taken. */
  float temperature = 0;
  /** Only among this many likeliest tokens; 0 for all. */
  int32_t topK = 0;
  /** Only among the likeliest that hold this share of the probability, in (0, 1]. */
  float topP = 1;
  /** Uniform, of 32 bits. */
  uint32_t number = 0;
};

/**
 * Row `r` reads the slots `reads[r * cell.reads ...]` and writes slot `writes[r]`; from the second step on it reads what it wrote.
 * Inputs and outputs of row `r` at step `s` are at `s * rows + r`.
 */
struct Task {
  int cell = 0, rows = 0, steps = 1;
  const int32_t* reads = nullptr;
  const int32_t* writes = nullptr;
  /** By row, for devices that draw: of the last step, the only one that then gives tokens. Null where all are the likeliest. */
  const Draw* draws = nullptr;
  /** Whether `readLogits` may be asked for afterwards, where they have no place. */
  bool keepsLogits = false;
};

/** Memory that the host reads and writes, one place per cell. Null where the cell does not have it. */
struct Places {
  /** `[maxBatch, input]` floats, or `[maxBatch]` tokens. */
  void* input = nullptr;
  /** `[maxBatch, hidden]`. */
  float *h = nullptr, *c = nullptr;
  /** `[maxBatch, classes]`. */
  float* logits = nullptr;
  int32_t* token = nullptr;
};

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** Throws DeviceError from every method where the device fails. */
class Device {
 public:
  virtual ~Device() = default;
  /** Room for slots `0 ... count - 1`; keeps what is there, new ones are zero. */
  virtual void reserve(int count) = 0;
  /** Host memory that the device can reach; lives as long as the device. */
  virtual void* allocate(size_t bytes) = 0;
  /** Runs a cell; returns once the outputs are in `places`. */
  virtual void run(const Task& task, const Places& places) = 0;
  virtual void clear(int slot) = 0;
  /** Slots `first ... first + count - 1` keep what they hold from here on. Answers the bytes of what was prepared with them. */
  virtual size_t freeze(int /*first*/, int /*count*/) { return 0; }
  /** Whether it heeds a task's `draws`, and answers `readLogits`: then logits need no place. */
  virtual bool drawsTokens() const { return false; }
  /** Version of the library that multiplies many rows; 0 where there is none. */
  virtual int productLibrary() const { return 0; }
  /** Logits of row `at`, counted as in `Places`, of a cell's last task that gave tokens; there once `settle` has returned. */
  virtual void readLogits(int /*cell*/, int /*at*/, float* /*to*/) { throw DeviceError("this device keeps no logits"); }
  /** `[h, c]` of a slot, each of `hidden` values, there once `settle` has returned; `c` may be null. */
  virtual void read(int slot, float* h, float* c) = 0;
  /** Waits for what is being read. */
  virtual void settle() {}
  /** What is given is copied before it returns. */
  virtual void write(int slot, const float* h, const float* c) = 0;
  /** Slot `to` begins with what `from` holds. */
  virtual void handOver(int from, int to) = 0;
  /** Frees all memory but what `allocate` gave; nothing may be called afterwards. */
  virtual void close() = 0;
};

/** Calls `run` with a task of one step and its places for each step of a task, for devices that take one at a time. */
template <typename Run>
void stepByStep(const Task& task, const Cell& cell, const Places& places, Run run) {
  Task one = task;
  one.steps = 1;
  Places at = places;
  const size_t rows = task.rows;
  for (int step = 0; step < task.steps; step++) {
    run(one, at);
    if (cell.writes && cell.reads == 1) one.reads = task.writes;
    if (at.input) at.input = static_cast<char*>(at.input) + 4 * rows * (cell.symbols > 0 ? 1 : cell.input);
    if (at.h) at.h += rows * cell.hidden;
    if (at.c) at.c += rows * cell.hidden;
    if (at.logits) at.logits += rows * cell.classes;
    if (at.token) at.token += rows;
  }
}

/** Columns of a row that an operation takes and gives; which of them mean something depends on its kind. */
struct Run {
  int32_t from, step, count, to, other;
};

/**
 * What is done to each row of a task, on its columns. A move copies `count` values, `step` apart. A product multiplies `count` values
 * with as many rows of its matrix, from `other` on, for `width` values. Functions of two take the second from `other` on, backwards
 * where `step` is -1; a sum adds that times the one factor. A scale has a factor for each value, from `other` on. The gates of an LSTM
 * of `count` units are `[i, o, f, g]` at `from`, its cell state at `other`; its states `[h, c]` go to `to`.
 */
struct Operation {
  enum Kind : int32_t { Move, Dense, Relu, Sigmoid, Tanh, Square, Root, Add, Multiply, Scale, LstmGates };
  Kind kind = Move;
  std::vector<Run> runs;
  /** Of a product: `[depth, width]`. */
  int depth = 0, width = 0;
  std::vector<float> weights;
  /** What a product adds, nothing where it adds to what is there; or the factors of a sum or a scale. */
  std::vector<float> vector;
};

/** A step as operations on rows of `columns` values. */
struct ProgramSpec {
  struct Port {
    int32_t column, width;
  };
  int columns = 0;
  std::vector<Port> inputs, outputs;
  std::vector<Operation> operations;
};

class Program {
 public:
  virtual ~Program() = default;
  /** Of weights and of what a task needs. */
  virtual size_t bytes() const = 0;
  /** `[rows, width]` each, in the order of the ports. */
  virtual void run(int rows, const float* const* inputs, float* const* outputs) = 0;
};

struct CudaStatus {
  /** One of "ok", "not-built", "no-driver", "driver-too-old", "no-device", "arch-unsupported". */
  std::string reason;
  std::string detail;
  int driver = 0, runtime = 0;
  struct Card {
    std::string name;
    int major = 0, minor = 0, processors = 0;
    size_t memoryBytes = 0;
  };
  std::vector<Card> cards;
};

CudaStatus cudaStatus();
/** Microseconds of a barrier between `blocks` blocks, by launches of `times` of them. Throws DeviceError where they have no room at once. */
double cudaBarrierUs(int card, int blocks, int times);
std::unique_ptr<Device> openCuda(const Model& model, const CudaChoice& choice);
/** Bits of the widest vectors of this processor that the CPU device can use, 512 or 256; 0 where there are none. */
int cpuVectorBits();
/** `vectorBits` 0 takes the widest. */
std::unique_ptr<Device> openCpu(const Model& model, int vectorBits);
std::unique_ptr<Program> openProgram(const ProgramSpec& spec, int vectorBits);
std::unique_ptr<Device> openReference(const Model& model);

}  // namespace cellbatch
