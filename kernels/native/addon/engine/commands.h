// Refuses commands that would make the device read or write where it must not.
#pragma once

#include "../device.h"
#include "protocol.h"

namespace cellbatch {

/** What an engine has room for. */
struct Room {
  /** Of callers. */
  int slots = 0;
  /** Rows of each cell that run at a time. */
  int rows = 0;
  /** Of leaves and nodes of the trees that run. */
  int treeSlots = 0;
  /** Most tokens that a request generates. */
  int tokens = 0;
};

/** Throws DeviceError with a sentence that names the value. Whether a slot is free is known only when a command's turn comes. */
void checkCommands(const Model& model, const Room& room, const int32_t* words, size_t count);

}  // namespace cellbatch
