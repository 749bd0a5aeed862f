// What a device engine is told and what it tells: 32-bit words, the same for every device. ../../commands.ts has the same numbers.
//
//   ADMIT       head, slot, cell, flags, from, steps, most, stop, seed, temperature, topK, topP, [h, c], inputs ...
//   TREE        head, slot, leaf cell, node cell, head cell, leaves, inputs of the leaves ..., children ...
//   CANCEL      head, slot
//   STEP_LIMIT  head, slot, steps
//
// `head` is the command's number, plus 16 times its words. Values that are no integers are the bits of a float.
#pragma once

#include <cstdint>
#include <cstring>

namespace cellbatch {

enum class Op : int32_t { Admit = 1, Tree = 2, Cancel = 3, StepLimit = 4 };

namespace admit {
constexpr int SLOT = 1, CELL = 2, FLAGS = 3, FROM = 4, STEPS = 5, MOST = 6, STOP = 7, SEED = 8, TEMPERATURE = 9, TOP_K = 10,
              TOP_P = 11, REST = 12;
/** After its inputs the cell reads the tokens that it gave, until `most` are there or one is `stop`. */
constexpr int32_t GENERATE = 1;
/** Tokens are drawn from the logits; else the likeliest is taken. */
constexpr int32_t SAMPLE = 2;
/** Begins from what slot `from` holds once it is finished; cancelled when that is. */
constexpr int32_t FOLLOW = 4;
/** Begins from the `h` and `c` given. */
constexpr int32_t STATE = 8;
}  // namespace admit

namespace tree {
/** Part `p` is leaf `p`, or node `p - leaves`, whose children are parts before it. The last is the root. */
constexpr int SLOT = 1, LEAF = 2, NODE = 3, HEAD = 4, LEAVES = 5, REST = 6;
}  // namespace tree

/** Words at the start of the ring; all count up and wrap. */
namespace ring {
/** Entries written: written after the entry. */
constexpr int ENTRIES = 0;
constexpr int STEPS = 1, SUBMISSIONS = 2;
/** Rows of all steps, and calls of the device. */
constexpr int ROWS = 3, CALLS = 4;
/** Admitted requests that no row has begun. */
constexpr int WAITING = 5;
/** 1 once the device has failed: nothing runs any more. */
constexpr int FAILED = 6;
constexpr int HEADER = 16;
/** An entry: of its words three are free. */
constexpr int WORDS = 8;
}  // namespace ring

/** How a request ended, in exactly one entry. */
struct Entry {
  int32_t slot;
  int32_t reason;
  /** Tokens written to the slot's part of the token arena. */
  int32_t tokens;
  /** Steps of the engine before the request's first row, -1 where there was none; and when it ended. */
  int32_t begin, end;
};

enum class Reason : int32_t { Complete = 0, Stop = 1, Limit = 2, Cancelled = 3 };

inline Op opOf(int32_t head) { return static_cast<Op>(head & 15); }
inline int lengthOf(int32_t head) { return head >> 4; }

inline float floatOf(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace cellbatch
