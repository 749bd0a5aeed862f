// A device with a model's weights, from the spec that JavaScript gives; see ../load.ts.
#pragma once

#include "device.h"
#include "js.h"

namespace cellbatch {

struct Opened {
  Model model;
  std::unique_ptr<Device> device;
};

/** Reads `{device, card, numbers, libraryRows, library, vectorBits, hidden, maxBatch, cells}`. */
Opened openDevice(const Values& js, napi_value spec);

}  // namespace cellbatch
