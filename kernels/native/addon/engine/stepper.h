// What a device engine does with commands and steps, but for the thread: which rows run, in which order they join, how they end.
#pragma once

#include <deque>
#include <vector>

#include "board.h"
#include "commands.h"
#include "lane.h"
#include "request.h"

namespace cellbatch {

/**
 * In one step of the engine every row of every cell takes one step. Before it, those that wait for a cell take its free rows in the
 * order in which they became ready; after it, those that have ended leave, cell by cell, in the order in which they joined. Nothing
 * of this depends on how many steps are asked for at a time.
 */
class Stepper {
 public:
  /** `device` has slots for callers and trees, and takes tasks of `model.maxBatch` rows times steps. */
  Stepper(const Model& model, Device& device, const Room& room, const Board& board, std::vector<Places> places);

  /** Commands that `checkCommands` has let pass. */
  void apply(const int32_t* words, size_t count);
  void advance(int steps);
  /** Of `advance`, all in all. */
  uint32_t steps() const { return steps_; }

 private:
  void admitChain(const int32_t* words, int length);
  void admitTree(const int32_t* words);
  void cancel(int slot);
  void limit(int slot, int steps);

  void enqueue(int slot, int part, int cell);
  void beginTrees();
  void fillRows();
  void join(Lane& lane, const Ticket& ticket);
  /** Until when nobody can join or leave, at most `steps`; 0 where there are no rows. */
  int quietSteps(int steps) const;
  void run(int cell, int steps);
  void stage(const Lane& lane, const Cell& cell, int steps);
  void retire(int cell, int steps);
  /** A chain's row has run. Answers whether it has left. */
  bool chainRan(const Lane& lane, int row, int steps);
  void partRan(const Lane& lane, int row, int cell);
  /** Draws what is to be drawn, into the places of the tokens. */
  void chooseTokens(Lane& lane, const Cell& cell, int steps);
  /** Writes the states of a slot and its logits, zeros where it ends between steps; then its entry. `at`: its row in `lane`. */
  void finish(int slot, Reason reason, const Lane* lane, int at = 0);
  /** Slot `to` begins with what the request of `from` has ended with. */
  void handOver(int from, int to);
  void publish();
  void end(int slot, Reason reason);
  void release(int treeSlot);
  void removeRows(int slot);
  Request& fresh(int slot);

  const Model model_;
  Device& device_;
  const Room room_;
  Board board_;
  std::vector<Lane> lanes_;
  std::vector<Request> requests_;
  /** Trees that wait until there are slots for all their leaves. */
  std::deque<Ticket> trees_;
  std::vector<int32_t> freeTreeSlots_;
  Sampler sampler_;
  uint32_t steps_ = 0, rowsRun_ = 0, calls_ = 0, waiting_ = 0;
};

}  // namespace cellbatch
