#pragma once

#include <cuda_runtime.h>

#include <utility>
#include <vector>

#include "../device.h"

namespace cellbatch {

inline void check(cudaError_t error, const char *what) {
  if (error == cudaSuccess) return;
  throw DeviceError(std::string(what) + ": " + cudaGetErrorString(error));
}

/** Memory of the device for a number of values, zero at first. */
template <typename T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t count) : count_(count) {
    if (count == 0) return;
    check(cudaMalloc(&data_, count * sizeof(T)), "cudaMalloc");
    check(cudaMemset(data_, 0, count * sizeof(T)), "cudaMemset");
  }
  explicit Array(const std::vector<T> &values) : Array(values.size()) {
    if (count_ > 0) check(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  Array(Array &&other) noexcept { *this = std::move(other); }
  Array &operator=(Array &&other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Array() { cudaFree(data_); }
  T *get() const { return data_; }
  size_t size() const { return count_; }
  void grow(size_t count) {
    Array<T> grown(count);
    if (count_ > 0) check(cudaMemcpy(grown.get(), data_, count_ * sizeof(T), cudaMemcpyDeviceToDevice), "cudaMemcpy");
    std::swap(*this, grown);
  }

 private:
  T *data_ = nullptr;
  size_t count_ = 0;
};

/** Memory of the host that copies of the device read without staging. */
template <typename T>
class Pinned {
 public:
  explicit Pinned(size_t count) {
    void *place;
    check(cudaHostAlloc(&place, count * sizeof(T), cudaHostAllocDefault), "cudaHostAlloc");
    data_ = static_cast<T *>(place);
  }
  Pinned(const Pinned &) = delete;
  ~Pinned() { cudaFreeHost(data_); }
  T *get() const { return data_; }

 private:
  T *data_;
};

}  // namespace cellbatch
