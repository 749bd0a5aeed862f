// Chooses the widest vectors that the processor has.
#include "device.h"

#include <algorithm>

namespace cellbatch {

#if defined(__x86_64__)
namespace {

void checkColumns(const ProgramSpec &spec, int64_t first, int64_t last) {
  if (first >= 0 && last < spec.columns) return;
  throw DeviceError("columns " + std::to_string(first) + " to " + std::to_string(last) + " are not 0 to " + std::to_string(spec.columns - 1));
}

/** Throws where an operation would leave the columns of a row, or its matrix. */
void checkProgram(const ProgramSpec &spec) {
  const auto check = [&](int64_t first, int64_t count) { checkColumns(spec, first, first + count - 1); };
  for (const auto &ports : {spec.inputs, spec.outputs}) {
    for (const auto &[column, width] : ports) check(column, width);
  }
  for (const Operation &one : spec.operations) {
    const bool isDense = one.kind == Operation::Dense;
    const size_t values = one.vector.size();
    if (isDense ? values > 0 && values != static_cast<size_t>(one.width) : one.kind == Operation::Add && values != 1)
      throw DeviceError("an operation has " + std::to_string(values) + " values beside its matrix");
    for (const Run &run : one.runs) {
      const int64_t given = one.kind == Operation::LstmGates ? 4 : 1;
      const int64_t made = one.kind == Operation::LstmGates ? 2 : 1;
      const int64_t end = run.from + (run.count - 1) * static_cast<int64_t>(run.step);
      if (run.count < 1) throw DeviceError("a run of " + std::to_string(run.count) + " columns");
      if (one.kind == Operation::Move) checkColumns(spec, std::min<int64_t>(run.from, end), std::max<int64_t>(run.from, end));
      else check(run.from, given * run.count);
      check(run.to, isDense ? one.width : made * run.count);
      if (isDense) {
        if (run.other < 0 || run.other > one.depth - run.count) throw DeviceError("a product reads past its matrix");
      } else if (one.kind == Operation::Scale) {
        if (run.other < 0 || static_cast<size_t>(run.other) + run.count > values) throw DeviceError("a scale reads past its factors");
      } else if (one.kind == Operation::Add || one.kind == Operation::Multiply || one.kind == Operation::LstmGates) {
        check(run.step < 0 ? run.other - run.count + 1 : run.other, run.count);
      }
    }
  }
}

}  // namespace

std::unique_ptr<Device> openCpu512(const Model &model);
std::unique_ptr<Device> openCpu256(const Model &model);
std::unique_ptr<Program> openProgram512(const ProgramSpec &spec);
std::unique_ptr<Program> openProgram256(const ProgramSpec &spec);

int cpuVectorBits() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return 512;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 256 : 0;
}

/** The width to use; 0 asks for the widest. */
static int checkedBits(int vectorBits) {
  const int most = cpuVectorBits();
  const int bits = vectorBits > 0 ? vectorBits : most;
  if (bits > most) throw DeviceError("this processor has no vectors of " + std::to_string(bits) + " bits");
  if (bits == 512 || bits == 256) return bits;
  throw DeviceError("this processor has neither AVX-512 nor AVX2");
}

std::unique_ptr<Device> openCpu(const Model &model, int vectorBits) {
  return checkedBits(vectorBits) == 512 ? openCpu512(model) : openCpu256(model);
}

std::unique_ptr<Program> openProgram(const ProgramSpec &spec, int vectorBits) {
  checkProgram(spec);
  return checkedBits(vectorBits) == 512 ? openProgram512(spec) : openProgram256(spec);
}
#else
int cpuVectorBits() { return 0; }

std::unique_ptr<Device> openCpu(const Model &, int) { throw DeviceError("the CPU device is for x86-64 only"); }
std::unique_ptr<Program> openProgram(const ProgramSpec &, int) { throw DeviceError("programs run on x86-64 only"); }
#endif

}  // namespace cellbatch
