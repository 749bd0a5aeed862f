// Chooses the widest vectors that the processor has.
#include "device.h"

namespace cellbatch {

#if defined(__x86_64__)
std::unique_ptr<Device> openCpu512(const Model &model);
std::unique_ptr<Device> openCpu256(const Model &model);

int cpuVectorBits() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return 512;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 256 : 0;
}

std::unique_ptr<Device> openCpu(const Model &model, int vectorBits) {
  const int bits = vectorBits > 0 ? vectorBits : cpuVectorBits();
  if (bits > cpuVectorBits()) throw DeviceError("this processor has no vectors of " + std::to_string(bits) + " bits");
  if (bits == 512) return openCpu512(model);
  if (bits == 256) return openCpu256(model);
  throw DeviceError("this processor has neither AVX-512 nor AVX2");
}
#else
int cpuVectorBits() { return 0; }

std::unique_ptr<Device> openCpu(const Model &, int) { throw DeviceError("the CPU device is for x86-64 only"); }
#endif

}  // namespace cellbatch
