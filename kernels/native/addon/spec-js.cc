#include "spec-js.h"

namespace cellbatch {
namespace {

Cell readCell(const Values& js, napi_value spec, int hidden) {
  Cell cell;
  cell.kind = static_cast<Kind>(js.integer(spec, "kind"));
  cell.hidden = hidden;
  cell.reads = js.integer(spec, "reads");
  cell.writes = js.flag(spec, "writes");
  cell.input = js.integer(spec, "input");
  cell.symbols = js.integer(spec, "symbols");
  cell.classes = js.integer(spec, "classes");
  const size_t width = static_cast<size_t>(cell.gates()) * hidden;
  if (cell.symbols > 0) cell.table = js.floats(spec, "table", width * cell.symbols);
  if (cell.symbols == 0) cell.bias = js.floats(spec, "bias", width);
  if (cell.input > 0) cell.inputWeights = js.floats(spec, "inputWeights", width * cell.input);
  cell.stateWeights = js.floats(spec, "stateWeights", width * cell.reads * hidden);
  if (cell.kind == Kind::Gru) cell.stateBias = js.floats(spec, "stateBias", width);
  if (cell.classes > 0) {
    cell.headWeights = js.floats(spec, "headWeights", static_cast<size_t>(cell.classes) * hidden);
    cell.headBias = js.floats(spec, "headBias", cell.classes);
  }
  return cell;
}

}  // namespace

Opened openDevice(const Values& js, napi_value spec) {
  Opened opened;
  Model& model = opened.model;
  model.hidden = js.integer(spec, "hidden");
  model.maxBatch = js.integer(spec, "maxBatch");
  const napi_value cells = js.property(spec, "cells");
  uint32_t count;
  check(js.env, napi_get_array_length(js.env, cells, &count));
  for (uint32_t i = 0; i < count; i++) {
    napi_value cell;
    check(js.env, napi_get_element(js.env, cells, i, &cell));
    model.cells.push_back(readCell(js, cell, model.hidden));
  }
  const std::string device = js.text(js.property(spec, "device"));
  const CudaChoice choice = {js.integer(spec, "card"), static_cast<Numbers>(js.integer(spec, "numbers")),
                             js.integer(spec, "libraryRows"), js.text(js.property(spec, "library"))};
  if (device == "cuda") opened.device = openCuda(model, choice);
  else if (device == "cpu") opened.device = openCpu(model, js.integer(spec, "vectorBits"));
  else opened.device = openReference(model);
  return opened;
}

}  // namespace cellbatch
