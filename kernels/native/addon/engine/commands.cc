#include "commands.h"

#include <vector>

namespace cellbatch {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw DeviceError(what); }

int inRange(const char* what, int32_t value, int least, int most) {
  if (value >= least && value <= most) return value;
  refuse(std::string(what) + " " + std::to_string(value) + " is not " + std::to_string(least) + " to " + std::to_string(most));
}

constexpr int MOST_STEPS = 1 << 24;

void expectLength(const char* command, int length, int64_t expected) {
  if (length == expected) return;
  refuse(std::string(command) + " of " + std::to_string(length) + " words should have " + std::to_string(expected));
}

int inputWords(const Cell& cell) { return cell.symbols > 0 ? 1 : cell.input; }

void checkTokens(const Cell& cell, const int32_t* inputs, int count) {
  for (int i = 0; i < count && cell.symbols > 0; i++) inRange("token", inputs[i], 0, cell.symbols - 1);
}

void checkAdmit(const Model& model, const Room& room, const int32_t* words, int length) {
  using namespace admit;
  if (length < REST) expectLength("ADMIT", length, REST);
  const int32_t flags = words[FLAGS];
  const Cell& cell = model.cells[inRange("cell", words[CELL], 0, static_cast<int>(model.cells.size()) - 1)];
  if (cell.reads != 1 || !cell.writes) refuse("cell " + std::to_string(words[CELL]) + " is none that runs in a chain");
  inRange("flags", flags, 0, GENERATE | SAMPLE | FOLLOW | STATE);
  const int steps = inRange("steps", words[STEPS], 1, MOST_STEPS);
  if (flags & FOLLOW) {
    inRange("slot", words[FROM], 0, room.slots - 1);
    if (words[FROM] == words[SLOT]) refuse("slot " + std::to_string(words[SLOT]) + " cannot follow itself");
    if (flags & STATE) refuse("a request cannot follow a slot and begin from a state given");
  }
  if (flags & GENERATE) {
    inRange("most tokens", words[MOST], 1, room.tokens);
    if (cell.symbols == 0 || cell.classes == 0) refuse("cell " + std::to_string(words[CELL]) + " does not read and give tokens");
    if (cell.classes > cell.symbols) refuse("cell " + std::to_string(words[CELL]) + " gives tokens that it cannot read");
  }
  if (flags & SAMPLE) {
    if (!(flags & GENERATE)) refuse("only requests that generate can draw tokens");
    const float temperature = floatOf(words[TEMPERATURE]), topP = floatOf(words[TOP_P]);
    if (!(temperature > 0)) refuse("temperature " + std::to_string(temperature) + " is not above 0");
    if (!(topP > 0 && topP <= 1)) refuse("top-p " + std::to_string(topP) + " is not in (0, 1]");
    inRange("top-k", words[TOP_K], 0, MOST_STEPS);
  }
  const int state = flags & STATE ? 2 * model.hidden : 0;
  expectLength("ADMIT", length, REST + state + static_cast<int64_t>(steps) * inputWords(cell));
  checkTokens(cell, words + REST + state, steps);
}

const Cell& cellOf(const Model& model, int32_t at, Kind kind, const char* what) {
  const Cell& cell = model.cells[inRange(what, at, 0, static_cast<int>(model.cells.size()) - 1)];
  if (cell.kind == kind) return cell;
  refuse("cell " + std::to_string(at) + " is no " + what);
}

void checkTree(const Model& model, const Room& room, const int32_t* words, int length) {
  using namespace tree;
  if (length < REST) expectLength("TREE", length, REST);
  const Cell& leaf = cellOf(model, words[LEAF], Kind::TreeLeaf, "tree's leaf");
  cellOf(model, words[NODE], Kind::TreeNode, "tree's node");
  if (words[HEAD] != -1) cellOf(model, words[HEAD], Kind::Linear, "tree's head");
  const int leaves = inRange("leaves", words[LEAVES], 1, std::max(room.treeSlots, 1));
  const int64_t inputs = static_cast<int64_t>(leaves) * inputWords(leaf);
  expectLength("TREE", length, REST + inputs + 2 * (leaves - 1));
  checkTokens(leaf, words + REST, leaves);
  const int32_t* children = words + REST + inputs;
  std::vector<bool> hasParent(2 * leaves - 1);
  for (int i = 0; i < 2 * (leaves - 1); i++) {
    const int child = inRange("child", children[i], 0, leaves + i / 2 - 1);
    if (hasParent[child]) refuse("part " + std::to_string(child) + " of a tree has two parents");
    hasParent[child] = true;
  }
}

}  // namespace

void checkCommands(const Model& model, const Room& room, const int32_t* words, size_t count) {
  for (size_t at = 0; at < count;) {
    const int length = lengthOf(words[at]);
    if (length < 2 || static_cast<size_t>(length) > count - at) {
      refuse("a command of " + std::to_string(length) + " words at word " + std::to_string(at) + " of " + std::to_string(count));
    }
    inRange("slot", words[at + 1], 0, room.slots - 1);
    switch (opOf(words[at])) {
      case Op::Admit: checkAdmit(model, room, words + at, length); break;
      case Op::Tree: checkTree(model, room, words + at, length); break;
      case Op::Cancel: expectLength("CANCEL", length, 2); break;
      case Op::StepLimit:
        expectLength("STEP_LIMIT", length, 3);
        inRange("steps", words[at + 2], 1, MOST_STEPS);
        break;
      default: refuse("there is no command " + std::to_string(words[at] & 15));
    }
    at += length;
  }
}

}  // namespace cellbatch
