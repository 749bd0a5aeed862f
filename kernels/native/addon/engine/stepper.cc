#include "stepper.h"

#include <algorithm>

namespace cellbatch {
namespace {

constexpr int NO_PART = -1;

}  // namespace

Stepper::Stepper(const Model& model, Device& device, const Room& room, const Board& board, std::vector<Places> places)
    : model_(model), device_(device), room_(room), board_(board), lanes_(model.cells.size()), requests_(room.slots) {
  for (size_t cell = 0; cell < lanes_.size(); cell++) {
    lanes_[cell].places = places[cell];
    lanes_[cell].rows.reserve(room.rows);
  }
  for (int slot = room.slots + room.treeSlots; slot-- > room.slots;) freeTreeSlots_.push_back(slot);
}

void Stepper::apply(const int32_t* words, size_t count) {
  for (size_t at = 0; at < count;) {
    const int32_t* command = words + at;
    const int length = lengthOf(*command);
    switch (opOf(*command)) {
      case Op::Admit: admitChain(command, length); break;
      case Op::Tree: admitTree(command); break;
      case Op::Cancel: cancel(command[1]); break;
      case Op::StepLimit: limit(command[1], command[2]); break;
    }
    at += length;
  }
  publish();
  board_.set(ring::WAITING, waiting_);
}

void Stepper::advance(int steps) {
  while (steps > 0) {
    fillRows();
    const int quiet = quietSteps(steps);
    if (quiet == 0) {
      steps_ += steps;
      break;
    }
    const int cells = static_cast<int>(lanes_.size());
    for (int cell = 0; cell < cells; cell++) run(cell, quiet);
    steps_ += quiet;
    steps -= quiet;
    for (int cell = 0; cell < cells; cell++) retire(cell, quiet);
    publish();
    board_.set(ring::ROWS, rowsRun_);
    board_.set(ring::CALLS, calls_);
  }
  board_.set(ring::STEPS, steps_);
  board_.set(ring::WAITING, waiting_);
}

void Stepper::publish() {
  if (!board_.isChanged()) return;
  device_.settle();
  board_.publish();
}

Request& Stepper::fresh(int slot) {
  Request& request = requests_[slot];
  if (request.state != Request::State::Done) {
    throw DeviceError("slot " + std::to_string(slot) + " was admitted again before its request had ended");
  }
  request.number++;
  request.done = request.tokens = 0;
  request.begin = request.follows = -1;
  waiting_++;
  return request;
}

void Stepper::admitChain(const int32_t* words, int length) {
  using namespace admit;
  const int slot = words[SLOT];
  Request& request = fresh(slot);
  request.isTree = false;
  request.cell = words[CELL];
  request.flags = words[FLAGS];
  request.inputs = words[STEPS];
  request.most = words[MOST];
  request.stop = words[STOP];
  request.random = static_cast<uint32_t>(words[SEED]);
  request.sampling = {};
  if (request.samples()) request.sampling = {floatOf(words[TEMPERATURE]), words[TOP_K], floatOf(words[TOP_P]), 0};
  request.limit = request.total();
  const int hidden = model_.hidden;
  const int state = request.flags & STATE ? 2 * hidden : 0;
  request.words.assign(words + REST + state, words + length);
  if (request.flags & STATE) {
    const float* given = reinterpret_cast<const float*>(words + REST);
    device_.write(slot, given, given + hidden);
  }
  if (!(request.flags & FOLLOW)) {
    if (!(request.flags & STATE)) device_.clear(slot);
    enqueue(slot, NO_PART, request.cell);
    return;
  }
  const int from = words[FROM];
  Request& before = requests_[from];
  if (before.state == Request::State::Done) {
    if (before.wasCancelled) {
      end(slot, Reason::Cancelled);
      return;
    }
    handOver(from, slot);
    enqueue(slot, NO_PART, request.cell);
    return;
  }
  request.state = Request::State::Blocked;
  request.follows = from;
  request.nextFollower = -1;
  if (before.firstFollower < 0) before.firstFollower = slot;
  else requests_[before.lastFollower].nextFollower = slot;
  before.lastFollower = slot;
}

void Stepper::admitTree(const int32_t* words) {
  const int slot = words[tree::SLOT];
  Request& request = fresh(slot);
  request.isTree = true;
  request.flags = 0;
  TreeParts& parts = request.tree;
  parts.leaves = words[tree::LEAVES];
  parts.leafCell = words[tree::LEAF];
  parts.nodeCell = words[tree::NODE];
  parts.headCell = words[tree::HEAD];
  const Cell& leaf = model_.cells[parts.leafCell];
  const int32_t* inputs = words + tree::REST;
  const int32_t* children = inputs + parts.leaves * (leaf.symbols > 0 ? 1 : leaf.input);
  const int nodes = parts.leaves - 1;
  request.words.assign(inputs, children);
  parts.children.assign(children, children + 2 * nodes);
  parts.parent.assign(parts.leaves + nodes, -1);
  for (int i = 0; i < 2 * nodes; i++) parts.parent[children[i]] = i / 2;
  parts.missing.assign(nodes, 2);
  parts.slot.assign(parts.leaves + nodes, -1);
  request.state = Request::State::Ready;
  trees_.push_back({slot, NO_PART, request.number});
  beginTrees();
}

void Stepper::cancel(int slot) {
  Request& request = requests_[slot];
  if (request.state == Request::State::Done) return;
  if (request.state == Request::State::Running) removeRows(slot);
  if (request.state == Request::State::Blocked) {
    Request& before = requests_[request.follows];
    int* link = &before.firstFollower;
    int last = -1;
    while (*link != slot) {
      last = *link;
      link = &requests_[*link].nextFollower;
    }
    *link = request.nextFollower;
    if (before.lastFollower == slot) before.lastFollower = last;
  }
  if (request.isTree) {
    for (const int32_t held : request.tree.slot) release(held);
  }
  end(slot, Reason::Cancelled);
  if (request.isTree) beginTrees();
}

void Stepper::limit(int slot, int steps) {
  Request& request = requests_[slot];
  if (request.state == Request::State::Done || request.isTree) return;
  request.limit = std::min(request.total(), steps);
  if (request.done < request.limit) return;
  removeRows(slot);
  finish(slot, Reason::Limit, nullptr);
}

void Stepper::enqueue(int slot, int part, int cell) {
  Request& request = requests_[slot];
  if (part == NO_PART) request.state = Request::State::Ready;
  lanes_[cell].ready.push_back({slot, part, request.number});
}

void Stepper::beginTrees() {
  while (!trees_.empty()) {
    const Ticket ticket = trees_.front();
    Request& request = requests_[ticket.slot];
    const bool isVoid = request.number != ticket.number || request.state != Request::State::Ready;
    if (!isVoid) {
      TreeParts& parts = request.tree;
      const size_t needed = parts.leaves > 1 ? parts.leaves : 0;
      if (freeTreeSlots_.size() < needed) return;
      request.state = Request::State::Running;
      for (int leaf = 0; leaf < parts.leaves; leaf++) {
        if (needed > 0) {
          parts.slot[leaf] = freeTreeSlots_.back();
          freeTreeSlots_.pop_back();
        } else {
          parts.slot[leaf] = ticket.slot;
        }
        enqueue(ticket.slot, leaf, parts.leafCell);
      }
    }
    trees_.pop_front();
  }
}

void Stepper::fillRows() {
  for (Lane& lane : lanes_) {
    while (static_cast<int>(lane.rows.size()) < room_.rows && !lane.ready.empty()) {
      const Ticket ticket = lane.ready.front();
      lane.ready.pop_front();
      const Request& request = requests_[ticket.slot];
      if (request.number == ticket.number && request.state != Request::State::Done) join(lane, ticket);
    }
  }
}

void Stepper::join(Lane& lane, const Ticket& ticket) {
  const auto [slot, part, number] = ticket;
  Request& request = requests_[slot];
  request.state = Request::State::Running;
  if (request.begin < 0) {
    request.begin = static_cast<int32_t>(steps_);
    waiting_--;
  }
  Row row = {slot, part, {slot, slot}, slot};
  if (request.isTree && part <= request.tree.root()) {
    TreeParts& parts = request.tree;
    if (part >= parts.leaves) {
      const int32_t* children = parts.children.data() + 2 * (part - parts.leaves);
      row.reads[0] = parts.slot[children[0]];
      row.reads[1] = parts.slot[children[1]];
      // A node's state takes the place of its left child's, that of the root the caller's slot.
      parts.slot[part] = part == parts.root() ? slot : row.reads[0];
    }
    row.writes = parts.slot[part];
  }
  lane.rows.push_back(row);
}

int Stepper::quietSteps(int steps) const {
  bool isIdle = true;
  for (const Lane& lane : lanes_) {
    if (lane.rows.empty()) continue;
    isIdle = false;
    steps = std::min(steps, model_.maxBatch / static_cast<int>(lane.rows.size()));
    for (const Row& row : lane.rows) steps = std::min(steps, row.part == NO_PART ? requests_[row.slot].known() : 1);
  }
  return isIdle ? 0 : steps;
}

void Stepper::run(int cell, int steps) {
  Lane& lane = lanes_[cell];
  if (lane.rows.empty()) return;
  const Cell& of = model_.cells[cell];
  lane.reads.clear();
  lane.writes.clear();
  lane.draws.clear();
  bool needsLogits = false, generates = false, samples = false;
  for (const Row& row : lane.rows) {
    lane.reads.insert(lane.reads.end(), row.reads, row.reads + of.reads);
    lane.writes.push_back(row.writes);
    Request& request = requests_[row.slot];
    // Of a row's last input on, each step gives a token.
    const bool givesToken = row.part == NO_PART && request.generates() && request.done + steps >= request.inputs;
    const bool draws = givesToken && request.samples();
    if (draws) request.sampling.number = nextNumber(request.random);
    generates = generates || givesToken;
    samples = samples || draws;
    lane.draws.push_back(draws ? request.sampling : Draw());
    needsLogits = needsLogits || row.part != NO_PART || request.generates() || request.done + steps == request.limit;
  }
  stage(lane, of, steps);
  Task task;
  task.cell = cell;
  task.rows = static_cast<int>(lane.rows.size());
  task.steps = steps;
  task.reads = lane.reads.data();
  task.writes = lane.writes.data();
  task.keepsLogits = needsLogits;
  Places places = lane.places;
  if (!needsLogits || device_.drawsTokens()) places.logits = nullptr;
  if (!generates && !(needsLogits && device_.drawsTokens())) places.token = nullptr;
  if (!samples) lane.draws.clear();
  if (samples && device_.drawsTokens()) task.draws = lane.draws.data();
  device_.run(task, places);
  if (samples && !device_.drawsTokens()) chooseTokens(lane, of, steps);
  rowsRun_ += task.rows * steps;
  calls_++;
}

void Stepper::stage(const Lane& lane, const Cell& cell, int steps) {
  const size_t size = cell.symbols > 0 ? 1 : cell.input;
  if (size == 0) return;
  int32_t* to = static_cast<int32_t*>(lane.places.input);
  const size_t rows = lane.rows.size();
  for (size_t r = 0; r < rows; r++) {
    const Row& row = lane.rows[r];
    const Request& request = requests_[row.slot];
    if (row.part == NO_PART && request.done >= request.inputs) {
      to[r] = request.token;
      continue;
    }
    const int32_t* from = request.words.data() + (row.part == NO_PART ? request.done : row.part) * size;
    for (int step = 0; step < steps; step++) std::memcpy(to + (step * rows + r) * size, from + step * size, 4 * size);
  }
}

void Stepper::retire(int cell, int steps) {
  Lane& lane = lanes_[cell];
  size_t kept = 0;
  const size_t rows = lane.rows.size();
  for (size_t row = 0; row < rows; row++) {
    bool hasLeft = true;
    if (lane.rows[row].part == NO_PART) hasLeft = chainRan(lane, static_cast<int>(row), steps);
    else partRan(lane, static_cast<int>(row), cell);
    if (!hasLeft) lane.rows[kept++] = lane.rows[row];
  }
  lane.rows.resize(kept);
}

bool Stepper::chainRan(const Lane& lane, int row, int steps) {
  const int slot = lane.rows[row].slot;
  Request& request = requests_[slot];
  request.done += steps;
  const int at = (steps - 1) * static_cast<int>(lane.rows.size()) + row;
  if (request.generates() && request.done >= request.inputs) {
    request.token = lane.places.token[at];
    if (request.token == request.stop) {
      finish(slot, Reason::Stop, &lane, at);
      return true;
    }
    board_.tokensOf(slot)[request.tokens++] = request.token;
  }
  if (request.done < request.limit) return false;
  finish(slot, request.done == request.total() ? Reason::Complete : Reason::Limit, &lane, at);
  return true;
}

void Stepper::chooseTokens(Lane& lane, const Cell& cell, int steps) {
  for (size_t row = 0; row < lane.draws.size(); row++) {
    if (lane.draws[row].temperature == 0) continue;
    const size_t at = (steps - 1) * lane.rows.size() + row;
    lane.places.token[at] = sampler_.draw(lane.places.logits + at * cell.classes, cell.classes, lane.draws[row]);
  }
}

void Stepper::partRan(const Lane& lane, int row, int cell) {
  const auto [slot, part, reads, writes] = lane.rows[row];
  Request& request = requests_[slot];
  TreeParts& parts = request.tree;
  if (part > parts.root()) {
    finish(slot, Reason::Complete, &lane, row);
    return;
  }
  if (part >= parts.leaves) {
    const int32_t* children = parts.children.data() + 2 * (part - parts.leaves);
    if (part == parts.root()) release(reads[0]);
    release(reads[1]);
    parts.slot[children[0]] = parts.slot[children[1]] = -1;
  }
  if (part == parts.root()) {
    if (parts.headCell >= 0) enqueue(slot, part + 1, parts.headCell);
    else finish(slot, Reason::Complete, nullptr);
  } else {
    const int parent = parts.parent[part];
    if (--parts.missing[parent] == 0) enqueue(slot, parts.leaves + parent, parts.nodeCell);
  }
  if (part >= parts.leaves) beginTrees();
}

void Stepper::release(int treeSlot) {
  if (treeSlot >= room_.slots) freeTreeSlots_.push_back(treeSlot);
}

void Stepper::removeRows(int slot) {
  for (Lane& lane : lanes_) {
    const auto belongs = [slot](const Row& row) { return row.slot == slot; };
    lane.rows.erase(std::remove_if(lane.rows.begin(), lane.rows.end(), belongs), lane.rows.end());
  }
}

void Stepper::finish(int slot, Reason reason, const Lane* lane, int at) {
  const Request& request = requests_[slot];
  const Cell& cell = model_.cells[request.isTree ? request.tree.nodeCell : request.cell];
  float* to = board_.outputsOf(slot);
  const int hidden = model_.hidden;
  const bool hasC = cell.kind != Kind::Gru;
  device_.read(slot, to, hasC ? to + hidden : nullptr);
  if (!hasC) std::memset(to + hidden, 0, sizeof(float) * hidden);
  const int classes = request.isTree ? (request.tree.headCell < 0 ? 0 : model_.cells[request.tree.headCell].classes) : cell.classes;
  float* logits = to + 2 * hidden;
  if (!lane || classes == 0) std::memset(logits, 0, sizeof(float) * classes);
  else if (device_.drawsTokens()) device_.readLogits(request.isTree ? request.tree.headCell : request.cell, at, logits);
  else std::memcpy(logits, lane->places.logits + static_cast<size_t>(at) * classes, sizeof(float) * classes);
  end(slot, reason);
}

void Stepper::handOver(int from, int to) {
  const Request& before = requests_[from];
  const bool hasC = before.isTree || model_.cells[before.cell].kind != Kind::Gru;
  if (hasC) return device_.handOver(from, to);
  // What the device keeps beside a GRU's h is nothing to go on from; its outputs say zero.
  device_.settle();
  const float* states = board_.outputsOf(from);
  device_.write(to, states, states + model_.hidden);
}

void Stepper::end(int slot, Reason reason) {
  Request& request = requests_[slot];
  if (request.begin < 0) waiting_--;
  request.state = Request::State::Done;
  request.wasCancelled = reason == Reason::Cancelled;
  board_.add({slot, static_cast<int32_t>(reason), request.tokens, request.begin, static_cast<int32_t>(steps_)});
  int follower = request.firstFollower;
  request.firstFollower = request.lastFollower = -1;
  while (follower >= 0) {
    Request& next = requests_[follower];
    const int after = next.nextFollower;
    if (reason == Reason::Cancelled) {
      end(follower, Reason::Cancelled);
    } else {
      handOver(slot, follower);
      enqueue(follower, NO_PART, next.cell);
    }
    follower = after;
  }
}

}  // namespace cellbatch
