#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "../device.h"

namespace cellbatch {

/** A row of a cell: a request's slot and, of a tree, its part. */
struct Row {
  int slot;
  int part;
  int32_t reads[2];
  int32_t writes;
};

/** What waits for a row; void once `number` is no longer that of the slot's request. */
struct Ticket {
  int slot;
  int part;
  uint32_t number;
};

/** The rows of one cell, in the order in which they joined, and those that wait. */
struct Lane {
  Places places;
  std::vector<Row> rows;
  std::deque<Ticket> ready;
  std::vector<int32_t> reads, writes;
  /** Of the step that runs; empty where the likeliest tokens are taken. */
  std::vector<Draw> draws;
};

}  // namespace cellbatch
