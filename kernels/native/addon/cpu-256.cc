// The CPU device with vectors of 256 bits. Standard headers come first: their code is shared with files for older processors.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "aligned.h"
#include "device.h"

#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#include "vector-256.h"

namespace cellbatch {
namespace {
#include "cpu.h"
#include "program.h"
}  // namespace

std::unique_ptr<Device> openCpu256(const Model &model) { return std::make_unique<Cpu>(model); }
std::unique_ptr<Program> openProgram256(const ProgramSpec &spec) { return std::make_unique<CpuProgram>(spec); }

}  // namespace cellbatch
#endif
