// Stands in for cuda.cu where the addon was built without nvcc.
#include "device.h"

namespace cellbatch {

CudaStatus cudaStatus() {
  CudaStatus status;
  status.reason = "not-built";
  status.detail = "the addon was built without nvcc";
  return status;
}

double cudaBarrierUs(int, int, int) { throw DeviceError("the addon was built without nvcc"); }

std::unique_ptr<Device> openCuda(const Model&, const CudaChoice&) { throw DeviceError("the addon was built without nvcc"); }

}  // namespace cellbatch
