// N-API glue of device engines: memory and calls, as ../addon.cc is of devices.
#include "engine-js.h"

#include <algorithm>

#include "../spec-js.h"
#include "submissions.h"

namespace cellbatch {
namespace {

/** Lives until the handle and all buffers that point into it are collected. */
struct Engine {
  Model model;
  Room room;
  std::unique_ptr<Device> device;
  std::unique_ptr<Stepper> stepper;
  std::unique_ptr<Submissions> submissions;
  napi_threadsafe_function wake = nullptr;
  bool closed = false;

  /** On the thread of JavaScript. */
  void close() {
    if (closed) return;
    closed = true;
    // The thread calls `wake`, so it ends first.
    if (submissions) submissions->stop();
    if (wake) napi_release_threadsafe_function(wake, napi_tsfn_abort);
    if (device) device->close();
  }

  ~Engine() { close(); }
};
using Shared = std::shared_ptr<Engine>;

void closeWithEnvironment(void* engine) { static_cast<Engine*>(engine)->close(); }

void release(napi_env, void*, void* shared) { delete static_cast<Shared*>(shared); }

/** The handle is gone: nobody can close the engine any more. */
void releaseHandle(napi_env env, void* engine, void* shared) {
  napi_remove_env_cleanup_hook(env, closeWithEnvironment, engine);
  static_cast<Engine*>(engine)->close();
  release(env, engine, shared);
}

Engine& engineOf(napi_env env, napi_value handle) {
  void* data;
  check(env, napi_get_value_external(env, handle, &data));
  Engine& engine = *static_cast<Engine*>(data);
  if (engine.closed) throw DeviceError("the device engine was closed");
  return engine;
}

/** Memory that the device and JavaScript both reach, under a name of `result`. */
template <typename T>
T* share(const Values& js, napi_value result, const char* name, const Shared& engine, size_t count) {
  void* memory = engine->device->allocate(sizeof(T) * count);
  std::memset(memory, 0, sizeof(T) * count);
  auto holder = std::make_unique<Shared>(engine);
  napi_value buffer;
  check(js.env, napi_create_external_arraybuffer(js.env, memory, sizeof(T) * count, release, holder.get(), &buffer));
  holder.release();
  js.set(result, name, buffer);
  return static_cast<T*>(memory);
}

std::vector<Places> placesOf(const Model& model, Device& device) {
  std::vector<Places> places;
  const size_t rows = model.maxBatch;
  for (const Cell& cell : model.cells) {
    Places at;
    const size_t size = cell.symbols > 0 ? 1 : cell.input;
    if (size > 0) at.input = device.allocate(4 * rows * size);
    if (cell.classes > 0) {
      at.logits = static_cast<float*>(device.allocate(4 * rows * cell.classes));
      at.token = static_cast<int32_t*>(device.allocate(4 * rows));
    }
    places.push_back(at);
  }
  return places;
}

void callWake(napi_env env, napi_value callback, void*, void*) {
  if (env == nullptr) return;
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  napi_call_function(env, undefined, callback, 0, nullptr, nullptr);
}

/** openEngine({...device, slots, rows, treeSlots, tokens, entries}, wake) -> {handle, ring, outputs, tokens} */
napi_value openEngine(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, [](const Values& js, napi_value* arguments) {
    const napi_value spec = arguments[0];
    const Shared engine = std::make_shared<Engine>();
    Opened opened = openDevice(js, spec);
    engine->model = std::move(opened.model);
    engine->device = std::move(opened.device);
    const Model& model = engine->model;
    Room& room = engine->room;
    room.slots = js.integer(spec, "slots");
    room.rows = js.integer(spec, "rows");
    room.treeSlots = js.integer(spec, "treeSlots");
    room.tokens = js.integer(spec, "tokens");
    const int entries = js.integer(spec, "entries");
    if (room.rows < 1 || room.rows > model.maxBatch || entries < room.slots || (entries & (entries - 1)) != 0) {
      throw DeviceError("an engine of " + std::to_string(room.rows) + " rows and " + std::to_string(entries) + " entries is none");
    }
    engine->device->reserve(room.slots + room.treeSlots);
    int classes = 0;
    for (const Cell& cell : model.cells) classes = std::max(classes, cell.classes);
    const int width = 2 * model.hidden + classes;
    const napi_value result = js.object();
    int32_t* ring = share<int32_t>(js, result, "ring", engine, ring::HEADER + static_cast<size_t>(entries) * ring::WORDS);
    float* outputs = share<float>(js, result, "outputs", engine, static_cast<size_t>(room.slots) * width);
    int32_t* tokens = share<int32_t>(js, result, "tokens", engine, static_cast<size_t>(room.slots) * std::max(room.tokens, 1));
    const Board board(ring, entries, outputs, width, tokens, room.tokens);
    engine->stepper = std::make_unique<Stepper>(model, *engine->device, room, board, placesOf(model, *engine->device));
    napi_value name;
    check(js.env, napi_create_string_utf8(js.env, "cellbatch", NAPI_AUTO_LENGTH, &name));
    check(js.env, napi_create_threadsafe_function(js.env, arguments[1], nullptr, name, 0, 1, nullptr, nullptr, nullptr, callWake,
                                                  &engine->wake));
    check(js.env, napi_unref_threadsafe_function(js.env, engine->wake));
    const napi_threadsafe_function wake = engine->wake;
    engine->submissions = std::make_unique<Submissions>(
        *engine->stepper, board, [wake] { napi_call_threadsafe_function(wake, nullptr, napi_tsfn_nonblocking); });
    check(js.env, napi_add_env_cleanup_hook(js.env, closeWithEnvironment, engine.get()));
    auto holder = std::make_unique<Shared>(engine);
    napi_value handle;
    check(js.env, napi_create_external(js.env, engine.get(), releaseHandle, holder.get(), &handle));
    holder.release();
    js.set(result, "handle", handle);
    return result;
  });
}

/** submitEngine(handle, words, count, steps, wakes) */
napi_value submitEngine(napi_env env, napi_callback_info info) {
  return guarded<5>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    Engine& engine = engineOf(js.env, arguments[0]);
    const int count = js.integer(arguments[2]);
    const int steps = js.integer(arguments[3]);
    if (count < 0 || steps < 0) throw DeviceError(std::to_string(count) + " words and " + std::to_string(steps) + " steps are none");
    const int32_t* words = js.array<int32_t>(arguments[1], napi_int32_array, count);
    checkCommands(engine.model, engine.room, words, count);
    engine.submissions->submit(words, count, steps, js.boolean(arguments[4]));
    return nullptr;
  });
}

/** holdEngine(handle, holds): whether a wake that is awaited keeps the process alive. */
napi_value holdEngine(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    const Engine& engine = engineOf(js.env, arguments[0]);
    const bool holds = js.boolean(arguments[1]);
    check(js.env, holds ? napi_ref_threadsafe_function(js.env, engine.wake) : napi_unref_threadsafe_function(js.env, engine.wake));
    return nullptr;
  });
}

/** engineFailure(handle): the sentence of what the device failed with, empty where it did not. */
napi_value engineFailure(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) {
    const std::string failure = engineOf(js.env, arguments[0]).submissions->failure();
    napi_value text;
    check(js.env, napi_create_string_utf8(js.env, failure.data(), failure.size(), &text));
    return text;
  });
}

napi_value closeEngine(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    engineOf(js.env, arguments[0]).close();
    return nullptr;
  });
}

}  // namespace

void addEngineFunctions(const Values& js, napi_value exports) {
  addFunctions(js, exports,
               {{"openEngine", openEngine},
                {"submitEngine", submitEngine},
                {"holdEngine", holdEngine},
                {"engineFailure", engineFailure},
                {"closeEngine", closeEngine}});
}

}  // namespace cellbatch
