// Products of many rows by cuBLASLt: `out[row] = weights * rows[row] + bias`, all of them row by row. The library counts by columns, so
// for it the weights are a transposed matrix, rows are columns, and what comes out is `[width, rows]`.
#pragma once

#include <map>
#include <tuple>
#include <utility>

#include "cublas-lt.h"
#include "memory.cuh"

namespace cellbatch {

/** `[width, depth]` by rows, on the device. */
struct Matrix {
  const void *values;
  int width, depth;
};

/** Not for several threads. */
class Products {
 public:
  /** Null where the library is not there or does not take this card, which is the current one. */
  static std::unique_ptr<Products> open(const std::string &file, lt::Type type, lt::Compute compute) {
    auto functions = lt::load(file);
    lt::Handle handle;
    if (!functions || functions->create(&handle) != 0) return nullptr;
    return std::unique_ptr<Products>(new Products(std::move(functions), handle, type, compute));
  }

  ~Products() {
    for (auto &[key, plan] : plans_) forget(plan);
    functions_->destroy(handle_);
  }

  int version() const { return static_cast<int>(functions_->getVersion()); }

  /** `bias` may be null. False, and nothing done, where the library has no way for these shapes. */
  bool multiply(const Matrix &weights, const void *rows, const float *bias, float *out, int count, cudaStream_t stream) {
    const Plan &plan = planFor(weights, rows, bias, count);
    if (!plan.isPossible) return false;
    const float one = 1, nought = 0;
    const lt::Status status =
        functions_->multiply(handle_, plan.operation, &one, weights.values, plan.a, rows, plan.b, &nought, out, plan.d, out, plan.d,
                             &plan.algorithm, workspace_.get(), workspace_.size(), stream);
    require(status, "cublasLtMatmul");
    return true;
  }

 private:
  struct Plan {
    lt::Operation operation = nullptr;
    lt::Layout a = nullptr, b = nullptr, d = nullptr;
    lt::Algorithm algorithm;
    bool isPossible = false;
  };
  /** Weights, rows, and to how many bytes these are aligned: 16, or as many as a value has. */
  using Key = std::tuple<const void *, int, uint32_t>;
  /** What NVIDIA advises for Hopper. */
  static constexpr size_t WORKSPACE_BYTES = 32 << 20;

  Products(std::unique_ptr<lt::Functions> functions, lt::Handle handle, lt::Type type, lt::Compute compute)
      : functions_(std::move(functions)), handle_(handle), type_(type), compute_(compute), workspace_(WORKSPACE_BYTES) {}

  static void require(lt::Status status, const char *what) {
    if (status != 0) throw DeviceError(std::string(what) + ": status " + std::to_string(status));
  }

  const Plan &planFor(const Matrix &weights, const void *rows, const float *bias, int count) {
    const uint32_t alignment = reinterpret_cast<uintptr_t>(rows) % 16 == 0 ? 16 : 4;
    const Key key = {weights.values, count, alignment};
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    Plan &plan = plans_[key];
    require(functions_->createOperation(&plan.operation, compute_, lt::R_32F), "cublasLtMatmulDescCreate");
    set(plan.operation, lt::TRANSPOSE_A, lt::TRANSPOSED);
    if (bias) {
      set(plan.operation, lt::EPILOGUE, lt::EPILOGUE_BIAS);
      set(plan.operation, lt::BIAS_POINTER, bias);
    }
    require(functions_->createLayout(&plan.a, type_, weights.depth, weights.width, weights.depth), "cublasLtMatrixLayoutCreate");
    require(functions_->createLayout(&plan.b, type_, weights.depth, count, weights.depth), "cublasLtMatrixLayoutCreate");
    require(functions_->createLayout(&plan.d, lt::R_32F, weights.width, count, weights.width), "cublasLtMatrixLayoutCreate");
    lt::Preference preference;
    require(functions_->createPreference(&preference), "cublasLtMatmulPreferenceCreate");
    set(preference, lt::MOST_WORKSPACE_BYTES, WORKSPACE_BYTES);
    // Weights and results begin where memory was allocated, which is what the library expects.
    set(preference, lt::ALIGNMENT_B, alignment);
    lt::Heuristic best;
    int ways = 0;
    const lt::Status status =
        functions_->getHeuristic(handle_, plan.operation, plan.a, plan.b, plan.d, plan.d, preference, 1, &best, &ways);
    functions_->destroyPreference(preference);
    plan.isPossible = status == 0 && ways > 0 && best.status == 0;
    if (plan.isPossible) plan.algorithm = best.algorithm;
    return plan;
  }

  template <typename Value>
  void set(lt::Operation operation, lt::OperationAttribute name, Value value) const {
    require(functions_->setOperation(operation, name, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }
  template <typename Value>
  void set(lt::Preference preference, lt::PreferenceAttribute name, Value value) const {
    require(functions_->setPreference(preference, name, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  }

  void forget(const Plan &plan) const {
    if (plan.operation) functions_->destroyOperation(plan.operation);
    for (lt::Layout layout : {plan.a, plan.b, plan.d}) {
      if (layout) functions_->destroyLayout(layout);
    }
  }

  const std::unique_ptr<lt::Functions> functions_;
  const lt::Handle handle_;
  const lt::Type type_;
  const lt::Compute compute_;
  const Array<unsigned char> workspace_;
  std::map<Key, Plan> plans_;
};

}  // namespace cellbatch
