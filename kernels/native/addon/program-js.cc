#include "program-js.h"

#include <algorithm>
#include <memory>

#include "device.h"

namespace cellbatch {
namespace {

struct OpenProgram {
  std::vector<ProgramSpec::Port> inputs, outputs;
  std::unique_ptr<Program> program;
};

std::vector<ProgramSpec::Port> readPorts(const Values& js, napi_value spec, const char* name) {
  const std::vector<int32_t> numbers = js.all<int32_t>(spec, name, napi_int32_array);
  std::vector<ProgramSpec::Port> ports;
  for (size_t i = 0; i + 1 < numbers.size(); i += 2) ports.push_back({numbers[i], numbers[i + 1]});
  return ports;
}

Operation readOperation(const Values& js, napi_value spec) {
  Operation one;
  const int32_t kind = js.integer(spec, "kind");
  if (kind < 0 || kind > Operation::LstmGates) throw DeviceError("there is no operation " + std::to_string(kind));
  one.kind = static_cast<Operation::Kind>(kind);
  const std::vector<int32_t> runs = js.all<int32_t>(spec, "runs", napi_int32_array);
  for (size_t i = 0; i + 4 < runs.size(); i += 5) one.runs.push_back({runs[i], runs[i + 1], runs[i + 2], runs[i + 3], runs[i + 4]});
  one.vector = js.all<float>(spec, "vector", napi_float32_array);
  if (one.kind != Operation::Dense) return one;
  one.depth = js.integer(spec, "depth");
  one.width = js.integer(spec, "width");
  if (one.depth < 1 || one.width < 1) throw DeviceError("a product needs a matrix");
  one.weights = js.floats(spec, "weights", static_cast<size_t>(one.depth) * one.width);
  return one;
}

/** openProgram({columns, inputs, outputs, operations, vectorBits}) -> {handle, bytes}; ports are pairs of column and width. */
napi_value open(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) {
    ProgramSpec spec;
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
    opened->program = openProgram(spec, js.integer(arguments[0], "vectorBits"));
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
napi_value run(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    void* data;
    check(js.env, napi_get_value_external(js.env, arguments[0], &data));
    OpenProgram& opened = *static_cast<OpenProgram*>(data);
    if (!opened.program) throw DeviceError("the program was closed");
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
napi_value close(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [](const Values& js, napi_value* arguments) -> napi_value {
    void* data;
    check(js.env, napi_get_value_external(js.env, arguments[0], &data));
    static_cast<OpenProgram*>(data)->program.reset();
    return nullptr;
  });
}

}  // namespace

void addProgramFunctions(const Values& js, napi_value exports) {
  addFunctions(js, exports, {{"openProgram", open}, {"runProgram", run}, {"closeProgram", close}});
}

}  // namespace cellbatch
