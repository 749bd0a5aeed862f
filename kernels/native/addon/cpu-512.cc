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
}  // namespace

std::unique_ptr<Device> openCpu512(const Model &model) { return std::make_unique<Cpu>(model); }

}  // namespace cellbatch
#endif
