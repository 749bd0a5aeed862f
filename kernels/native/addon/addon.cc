// N-API glue: numbers and buffers in, buffers out. Everything that decides is in TypeScript; see ../load.ts for the types.
#define NAPI_VERSION 8
#include <node_api.h>

#include <algorithm>

#include "device.h"

namespace {

using cellbatch::Cell;
using cellbatch::Device;
using cellbatch::Kind;
using cellbatch::Model;
using cellbatch::Places;
using cellbatch::Task;

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

/** Thrown once an exception is pending in JavaScript. */
struct Pending {};

void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw_error(env, "ERR_NATIVE", "the native addon was called with what it does not expect");
  throw Pending{};
}

struct Values {
  napi_env env;

  napi_value property(napi_value object, const char* name) const {
    napi_value value;
    check(env, napi_get_named_property(env, object, name, &value));
    return value;
  }

  int32_t integer(napi_value value) const {
    int32_t number;
    check(env, napi_get_value_int32(env, value, &number));
    return number;
  }

  int32_t integer(napi_value object, const char* name) const { return integer(property(object, name)); }

  bool flag(napi_value object, const char* name) const {
    bool value;
    check(env, napi_get_value_bool(env, property(object, name), &value));
    return value;
  }

  std::string text(napi_value value) const {
    size_t length = 0;
    check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length));
    std::string text(length, '\0');
    check(env, napi_get_value_string_utf8(env, value, text.data(), length + 1, &length));
    return text;
  }

  template <typename T>
  T* array(napi_value value, napi_typedarray_type expected, size_t least) const {
    napi_typedarray_type type;
    size_t length;
    void* data;
    check(env, napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr));
    if (type != expected || length < least) {
      const std::string message = "an array of " + std::to_string(length) + " values came where at least " +
                                  std::to_string(least) + " of another type may be read";
      napi_throw_range_error(env, "ERR_NATIVE", message.c_str());
      throw Pending{};
    }
    return static_cast<T*>(data);
  }

  std::vector<float> floats(napi_value object, const char* name, size_t expected) const {
    const napi_value value = property(object, name);
    const float* data = array<float>(value, napi_float32_array, expected);
    return std::vector<float>(data, data + expected);
  }

  std::vector<int32_t> integers(napi_value object, const char* name) const {
    const napi_value value = property(object, name);
    const int32_t* data = array<int32_t>(value, napi_int32_array, 0);
    size_t length;
    check(env, napi_get_typedarray_info(env, value, nullptr, &length, nullptr, nullptr, nullptr));
    return std::vector<int32_t>(data, data + length);
  }

  void set(napi_value object, const char* name, napi_value value) const {
    check(env, napi_set_named_property(env, object, name, value));
  }

  void set(napi_value object, const char* name, const std::string& text) const {
    napi_value value;
    check(env, napi_create_string_utf8(env, text.data(), text.size(), &value));
    set(object, name, value);
  }

  void set(napi_value object, const char* name, double number) const {
    napi_value value;
    check(env, napi_create_double(env, number, &value));
    set(object, name, value);
  }

  napi_value object() const {
    napi_value value;
    check(env, napi_create_object(env, &value));
    return value;
  }
};

/** Calls `body` with the arguments, and turns what it throws into an exception of JavaScript. */
template <size_t Count, typename Body>
napi_value guarded(napi_env env, napi_callback_info info, Body body) {
  try {
    napi_value arguments[Count > 0 ? Count : 1];
    size_t count = Count;
    check(env, napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr));
    return body(Values{env}, arguments);
  } catch (const Pending&) {
  } catch (const std::exception& error) {
    napi_throw_error(env, "ERR_NATIVE", error.what());
  }
  return nullptr;
}

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

/** open({device, card, vectorBits, hidden, maxBatch, cells}) -> {handle, places: {input?, h?, c?, logits?, token?}[]} */
napi_value open(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) {
    const napi_value spec = arguments[0];
    const Shared session = std::make_shared<Session>();
    Model& model = session->model;
    model.hidden = js.integer(spec, "hidden");
    model.maxBatch = js.integer(spec, "maxBatch");
    const napi_value cells = js.property(spec, "cells");
    uint32_t count;
    check(js.env, napi_get_array_length(js.env, cells, &count));
    std::vector<napi_value> specs(count);
    for (uint32_t i = 0; i < count; i++) {
      check(js.env, napi_get_element(js.env, cells, i, &specs[i]));
      model.cells.push_back(readCell(js, specs[i], model.hidden));
    }
    const std::string device = js.text(js.property(spec, "device"));
    if (device == "cuda") session->device = cellbatch::openCuda(model, js.integer(spec, "card"));
    else if (device == "cpu") session->device = cellbatch::openCpu(model, js.integer(spec, "vectorBits"));
    else session->device = cellbatch::openReference(model);
    napi_value places;
    check(js.env, napi_create_array(js.env, &places));
    session->places.resize(count);
    for (uint32_t i = 0; i < count; i++) {
      const Cell& cell = model.cells[i];
      const napi_value of = js.object();
      Places& at = session->places[i];
      const size_t rows = model.maxBatch;
      if (cell.symbols > 0 || cell.input > 0) {
        place(js, of, "input", session, cell.symbols > 0 ? rows : rows * cell.input, at.input);
      }
      if (js.flag(specs[i], "givesH")) place(js, of, "h", session, rows * model.hidden, at.h);
      if (js.flag(specs[i], "givesC")) place(js, of, "c", session, rows * model.hidden, at.c);
      if (js.flag(specs[i], "givesLogits")) place(js, of, "logits", session, rows * cell.classes, at.logits);
      if (js.flag(specs[i], "givesToken")) place(js, of, "token", session, rows, at.token);
      check(js.env, napi_set_element(js.env, places, i, of));
    }
    const napi_value result = js.object();
    js.set(result, "places", places);
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

struct OpenProgram {
  std::vector<cellbatch::ProgramSpec::Port> inputs, outputs;
  std::unique_ptr<cellbatch::Program> program;
};

std::vector<cellbatch::ProgramSpec::Port> readPorts(const Values& js, napi_value spec, const char* name) {
  const std::vector<int32_t> numbers = js.integers(spec, name);
  std::vector<cellbatch::ProgramSpec::Port> ports;
  for (size_t i = 0; i + 1 < numbers.size(); i += 2) ports.push_back({numbers[i], numbers[i + 1]});
  return ports;
}

cellbatch::Operation readOperation(const Values& js, napi_value spec) {
  cellbatch::Operation one;
  const int32_t kind = js.integer(spec, "kind");
  checkRange("operation", &kind, 1, cellbatch::Operation::LstmGates + 1);
  one.kind = static_cast<cellbatch::Operation::Kind>(kind);
  const std::vector<int32_t> runs = js.integers(spec, "runs");
  for (size_t i = 0; i + 4 < runs.size(); i += 5) one.runs.push_back({runs[i], runs[i + 1], runs[i + 2], runs[i + 3], runs[i + 4]});
  if (one.kind != cellbatch::Operation::Dense) return one;
  one.depth = js.integer(spec, "depth");
  one.width = js.integer(spec, "width");
  one.adds = js.flag(spec, "adds");
  if (one.depth < 1 || one.width < 1) throw cellbatch::DeviceError("a product needs a matrix");
  one.weights = js.floats(spec, "weights", static_cast<size_t>(one.depth) * one.width);
  one.bias = one.adds ? std::vector<float>(one.width) : js.floats(spec, "bias", one.width);
  return one;
}

/** openProgram({columns, inputs, outputs, operations, vectorBits}) -> {handle, bytes}; ports are pairs of column and width. */
napi_value openProgram(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) {
    cellbatch::ProgramSpec spec;
    spec.columns = js.integer(arguments[0], "columns");
    spec.inputs = readPorts(js, arguments[0], "inputs");
    spec.outputs = readPorts(js, arguments[0], "outputs");
    const napi_value operations = js.property(arguments[0], "operations");
    uint32_t count;
    check(js.env, napi_get_array_length(js.env, operations, &count));
    for (uint32_t i = 0; i < count; i++) {
      napi_value one;
      check(js.env, napi_get_element(js.env, operations, i, &one));
      spec.operations.push_back(readOperation(js, one));
    }
    auto opened = std::make_unique<OpenProgram>();
    opened->inputs = spec.inputs;
    opened->outputs = spec.outputs;
    opened->program = cellbatch::openProgram(spec, js.integer(arguments[0], "vectorBits"));
    const napi_value result = js.object();
    js.set(result, "bytes", static_cast<double>(opened->program->bytes()));
    napi_value handle;
    const auto free = [](napi_env, void* data, void*) { delete static_cast<OpenProgram*>(data); };
    check(js.env, napi_create_external(js.env, opened.get(), free, nullptr, &handle));
    opened.release();
    js.set(result, "handle", handle);
    return result;
  });
}

/** runProgram(handle, rows, arrays): those of the inputs, then of the outputs. */
napi_value runProgram(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    void* data;
    check(js.env, napi_get_value_external(js.env, arguments[0], &data));
    OpenProgram& opened = *static_cast<OpenProgram*>(data);
    if (!opened.program) throw cellbatch::DeviceError("the program was closed");
    const int rows = js.integer(arguments[1]);
    uint32_t at = 0;
    const auto take = [&](int width) {
      napi_value array;
      check(js.env, napi_get_element(js.env, arguments[2], at++, &array));
      return js.array<float>(array, napi_float32_array, static_cast<size_t>(std::max(rows, 0)) * width);
    };
    std::vector<const float*> inputs;
    std::vector<float*> outputs;
    for (const auto& port : opened.inputs) inputs.push_back(take(port.width));
    for (const auto& port : opened.outputs) outputs.push_back(take(port.width));
    opened.program->run(rows, inputs.data(), outputs.data());
    return nullptr;
  });
}

/** closeProgram(handle): gives its memory back at once. */
napi_value closeProgram(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    void* data;
    check(js.env, napi_get_value_external(js.env, arguments[0], &data));
    static_cast<OpenProgram*>(data)->program.reset();
    return nullptr;
  });
}

napi_value initialise(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback call;
  } functions[] = {{"status", status}, {"open", open}, {"reserve", reserve}, {"run", run},
                   {"clear", clear},   {"read", read}, {"write", write},   {"close", close}, {"freeze", freeze},
                   {"openProgram", openProgram}, {"runProgram", runProgram}, {"closeProgram", closeProgram}};
  for (const auto& [name, call] : functions) {
    napi_value function;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &function) != napi_ok) return nullptr;
    if (napi_set_named_property(env, exports, name, function) != napi_ok) return nullptr;
  }
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, initialise)
