#pragma once

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace cellbatch {

/** Zeros that begin at the start of a cache line. */
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(size_t count) : count_(count) {
    const size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    values_ = static_cast<float *>(std::aligned_alloc(64, bytes));
    if (values_ == nullptr && bytes > 0) throw std::bad_alloc();
    std::memset(values_, 0, bytes);
  }
  Aligned(Aligned &&other) noexcept { swap(other); }
  Aligned &operator=(Aligned &&other) noexcept {
    swap(other);
    return *this;
  }
  ~Aligned() { std::free(values_); }
  float *get() const { return values_; }
  size_t size() const { return count_; }

 private:
  void swap(Aligned &other) {
    std::swap(values_, other.values_);
    std::swap(count_, other.count_);
  }
  float *values_ = nullptr;
  size_t count_ = 0;
};

}  // namespace cellbatch
