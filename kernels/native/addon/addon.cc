// N-API glue: numbers and buffers in, buffers out. Everything that decides is in TypeScript; see ../load.ts for the types.
#include <algorithm>

#include "engine/engine-js.h"
#include "program-js.h"
#include "spec-js.h"

namespace {

using cellbatch::Cell;
using cellbatch::check;
using cellbatch::Device;
using cellbatch::guarded;
using cellbatch::Model;
using cellbatch::Places;
using cellbatch::Task;
using cellbatch::Values;

/** Lives until the handle and all buffers that point into it are collected. */
struct Session {
  Model model;
  std::unique_ptr<Device> device;
  std::vector<Places> places;
  int slots = 0;
  bool closed = false;
};
using Shared = std::shared_ptr<Session>;

void release(napi_env, void*, void* shared) { delete static_cast<Shared*>(shared); }

Session& sessionOf(napi_env env, napi_value handle) {
  void* data;
  check(env, napi_get_value_external(env, handle, &data));
  Session& session = *static_cast<Session*>(data);
  if (session.closed) throw cellbatch::DeviceError("the device was closed");
  return session;
}

int slotOf(const Values& js, const Session& session, napi_value value) {
  const int slot = js.integer(value);
  if (slot >= 0 && slot < session.slots) return slot;
  throw cellbatch::DeviceError("there is no slot " + std::to_string(slot) + ", " + std::to_string(session.slots) +
                               " are reserved");
}

/** Throws where a value is not one of `0 ... count - 1`: the device would read outside its memory. */
void checkRange(const char* what, const int32_t* values, size_t length, int count) {
  for (size_t i = 0; i < length; i++) {
    if (values[i] >= 0 && values[i] < count) continue;
    throw cellbatch::DeviceError(std::string(what) + " " + std::to_string(values[i]) + " is not 0 to " +
                                 std::to_string(count - 1));
  }
}

template <typename T>
void place(const Values& js, napi_value of, const char* name, const Shared& session, size_t count, T*& at) {
  const size_t bytes = 4 * count;
  void* memory = session->device->allocate(bytes);
  auto holder = std::make_unique<Shared>(session);
  napi_value buffer;
  check(js.env, napi_create_external_arraybuffer(js.env, memory, bytes, release, holder.get(), &buffer));
  holder.release();
  at = static_cast<T*>(memory);
  js.set(of, name, buffer);
}

napi_value status(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, [](const Values& js, napi_value*) {
    const cellbatch::CudaStatus found = cellbatch::cudaStatus();
    const napi_value result = js.object();
    js.set(result, "reason", found.reason);
    js.set(result, "detail", found.detail);
    js.set(result, "driver", found.driver);
    js.set(result, "runtime", found.runtime);
    napi_value cards;
    check(js.env, napi_create_array(js.env, &cards));
    for (uint32_t i = 0; i < found.cards.size(); i++) {
      const auto& card = found.cards[i];
      const napi_value one = js.object();
      js.set(one, "name", card.name);
      js.set(one, "capability", card.major + card.minor / 10.0);
      js.set(one, "processors", card.processors);
      js.set(one, "memoryBytes", static_cast<double>(card.memoryBytes));
      check(js.env, napi_set_element(js.env, cards, i, one));
    }
    js.set(result, "cards", cards);
    js.set(result, "vectorBits", cellbatch::cpuVectorBits());
    return result;
  });
}

/** barrier(card, blocks, times) -> microseconds of one */
napi_value barrier(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, [](const Values& js, napi_value* arguments) {
    const int card = js.integer(arguments[0]), blocks = js.integer(arguments[1]), times = js.integer(arguments[2]);
    if (blocks < 1 || times < 1 || times >= (1 << 30) / blocks) {
      throw cellbatch::DeviceError(std::to_string(times) + " barriers of " + std::to_string(blocks) + " blocks cannot be counted");
    }
    napi_value result;
    check(js.env, napi_create_double(js.env, cellbatch::cudaBarrierUs(card, blocks, times), &result));
    return result;
  });
}

/** open({device, card, numbers, libraryRows, library, vectorBits, hidden, maxBatch, cells}) -> {handle, productLibrary, places: {input?, h?, c?, logits?, token?}[]} */
napi_value open(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) {
    const napi_value spec = arguments[0];
    const Shared session = std::make_shared<Session>();
    cellbatch::Opened opened = cellbatch::openDevice(js, spec);
    session->model = std::move(opened.model);
    session->device = std::move(opened.device);
    const Model& model = session->model;
    const napi_value cells = js.property(spec, "cells");
    const size_t count = model.cells.size();
    napi_value places;
    check(js.env, napi_create_array(js.env, &places));
    session->places.resize(count);
    for (uint32_t i = 0; i < count; i++) {
      const Cell& cell = model.cells[i];
      napi_value cellSpec;
      check(js.env, napi_get_element(js.env, cells, i, &cellSpec));
      const napi_value of = js.object();
      Places& at = session->places[i];
      const size_t rows = model.maxBatch;
      if (cell.symbols > 0 || cell.input > 0) {
        place(js, of, "input", session, cell.symbols > 0 ? rows : rows * cell.input, at.input);
      }
      if (js.flag(cellSpec, "givesH")) place(js, of, "h", session, rows * model.hidden, at.h);
      if (js.flag(cellSpec, "givesC")) place(js, of, "c", session, rows * model.hidden, at.c);
      if (js.flag(cellSpec, "givesLogits")) place(js, of, "logits", session, rows * cell.classes, at.logits);
      if (js.flag(cellSpec, "givesToken")) place(js, of, "token", session, rows, at.token);
      check(js.env, napi_set_element(js.env, places, i, of));
    }
    const napi_value result = js.object();
    js.set(result, "places", places);
    js.set(result, "productLibrary", session->device->productLibrary());
    auto holder = std::make_unique<Shared>(session);
    napi_value handle;
    check(js.env, napi_create_external(js.env, session.get(), release, holder.get(), &handle));
    holder.release();
    js.set(result, "handle", handle);
    return result;
  });
}

napi_value reserve(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Session& session = sessionOf(js.env, arguments[0]);
    const int count = js.integer(arguments[1]);
    session.device->reserve(count);
    session.slots = std::max(session.slots, count);
    return nullptr;
  });
}

/** run(handle, cell, rows, steps, reads, writes) */
napi_value run(napi_env env, napi_callback_info info) {
  return guarded<6>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Session& session = sessionOf(js.env, arguments[0]);
    Task task;
    task.cell = js.integer(arguments[1]);
    task.rows = js.integer(arguments[2]);
    task.steps = js.integer(arguments[3]);
    const Cell& cell = session.model.cells.at(task.cell);
    const int most = session.model.maxBatch;
    if (task.rows < 1 || task.steps < 1 || task.rows > most / task.steps) {
      throw cellbatch::DeviceError(std::to_string(task.rows) + " rows of " + std::to_string(task.steps) +
                                   " steps are not 1 to maxBatch " + std::to_string(most));
    }
    task.reads = js.array<int32_t>(arguments[4], napi_int32_array, static_cast<size_t>(task.rows) * cell.reads);
    task.writes = js.array<int32_t>(arguments[5], napi_int32_array, cell.writes ? task.rows : 0);
    const Places& places = session.places[task.cell];
    checkRange("slot", task.reads, static_cast<size_t>(task.rows) * cell.reads, session.slots);
    if (cell.writes) checkRange("slot", task.writes, task.rows, session.slots);
    if (cell.symbols > 0) {
      checkRange("token", static_cast<int32_t*>(places.input), static_cast<size_t>(task.rows) * task.steps, cell.symbols);
    }
    session.device->run(task, places);
    return nullptr;
  });
}

napi_value clear(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Session& session = sessionOf(js.env, arguments[0]);
    session.device->clear(slotOf(js, session, arguments[1]));
    return nullptr;
  });
}

napi_value freeze(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Session& session = sessionOf(js.env, arguments[0]);
    const int first = slotOf(js, session, arguments[1]);
    const int count = js.integer(arguments[2]);
    const int32_t last = first + count - 1;
    checkRange("slot", &last, 1, session.slots);
    napi_value bytes;
    check(js.env, napi_create_double(js.env, session.device->freeze(first, count), &bytes));
    return bytes;
  });
}

/** read(handle, slot, into) and write(handle, slot, from): h, then c. */
napi_value read(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Session& session = sessionOf(js.env, arguments[0]);
    const size_t hidden = session.model.hidden;
    float* into = js.array<float>(arguments[2], napi_float32_array, 2 * hidden);
    session.device->read(slotOf(js, session, arguments[1]), into, into + hidden);
    session.device->settle();
    return nullptr;
  });
}

napi_value write(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Session& session = sessionOf(js.env, arguments[0]);
    const size_t hidden = session.model.hidden;
    const float* from = js.array<float>(arguments[2], napi_float32_array, 2 * hidden);
    session.device->write(slotOf(js, session, arguments[1]), from, from + hidden);
    return nullptr;
  });
}

/** close(handle): gives the device's memory back at once; buffers of `places` stay until they are collected. */
napi_value close(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Session& session = sessionOf(js.env, arguments[0]);
    session.closed = true;
    session.device->close();
    return nullptr;
  });
}

napi_value initialise(napi_env env, napi_value exports) {
  try {
    const Values js{env};
    cellbatch::addFunctions(js, exports,
                            {{"status", status}, {"barrier", barrier}, {"open", open}, {"reserve", reserve}, {"run", run}, {"clear", clear},
                             {"freeze", freeze}, {"read", read}, {"write", write}, {"close", close}});
    cellbatch::addProgramFunctions(js, exports);
    cellbatch::addEngineFunctions(js, exports);
  } catch (const cellbatch::Pending&) {
    return nullptr;
  }
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, initialise)
