#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "protocol.h"
#include "sampling.h"

namespace cellbatch {

/** A tree of the request in a slot. Parts are numbered as TREE's words have them. */
struct TreeParts {
  int leaves = 0;
  int leafCell = 0, nodeCell = 0;
  /** -1 where nothing reads the root. */
  int headCell = -1;
  /** By node, two parts. */
  std::vector<int32_t> children;
  /** By part: its node, -1 of the root. */
  std::vector<int32_t> parent;
  /** By node: children that have not run. */
  std::vector<uint8_t> missing;
  /** By part: the slot of its state; -1 before it runs and once its parent has. */
  std::vector<int32_t> slot;

  int root() const { return 2 * leaves - 2; }
};

/** What is known of the request in a slot. */
struct Request {
  enum class State {
    /** Its entry is written, or there was none yet. */
    Done,
    /** For the slot that it follows. */
    Blocked,
    /** In the queue of its cell, or its tree among the trees. */
    Ready,
    Running,
  };
  State state = State::Done;
  bool isTree = false;
  /** Counts the requests of the slot: what queues hold of others is void. */
  uint32_t number = 0;
  int cell = 0;
  int32_t flags = 0;
  /** Inputs in steps, and the words that they are. */
  int inputs = 0;
  std::vector<int32_t> words;
  /** Most tokens, and the one that ends it or -1. */
  int most = 0, stop = -1;
  Draw sampling;
  uint32_t random = 0;
  /** Steps that have run, and that may run in all. */
  int done = 0, limit = 0;
  int32_t token = 0;
  int tokens = 0;
  int32_t begin = -1;
  /** Of the last request, once it has ended. */
  bool wasCancelled = false;
  /** While it is blocked: the slot it follows, and the next that follows the same. */
  int follows = -1, nextFollower = -1;
  int firstFollower = -1, lastFollower = -1;
  TreeParts tree;

  bool generates() const { return flags & admit::GENERATE; }
  bool samples() const { return flags & admit::SAMPLE; }
  int total() const { return generates() ? inputs + most - 1 : inputs; }
  /** Steps whose input is known; at least 1 until the end. */
  int known() const { return done < inputs ? std::min(inputs, limit) - done : 1; }
};

}  // namespace cellbatch
