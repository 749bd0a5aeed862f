// The CPU device with vectors of 512 bits. Standard headers come first: their code is shared with files for older processors.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "aligned.h"
#include "device.h"

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512dq,avx512vl,fma,avx2")
#include "vector-512.h"

namespace cellbatch {
namespace {
#include "cpu.h"
#include "program.h"
}  // namespace

std::unique_ptr<Device> openCpu512(const Model &model) { return std::make_unique<Cpu>(model); }
std::unique_ptr<Program> openProgram512(const ProgramSpec &spec) { return std::make_unique<CpuProgram>(spec); }

}  // namespace cellbatch
#endif
