// NVIDIA's cuBLASLt, found when the addon runs: it is half a gigabyte, and need not be there. Its header need not be there either
// when the addon is built, so what is used of it is declared here; numbers and layouts are the same from CUDA 11 to 13.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <memory>
#include <string>

namespace cellbatch::lt {

using Status = int;
using Handle = struct OpaqueHandle *;
using Operation = struct OpaqueOperation *;
using Layout = struct OpaqueLayout *;
using Preference = struct OpaquePreference *;

struct Algorithm {
  uint64_t words[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspaceBytes;
  Status status;
  float waves;
  int reserved[4];
};

enum Type : int32_t { R_32F = 0, R_16BF = 14 };
enum Compute : int32_t { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum OperationAttribute : int32_t { TRANSPOSE_A = 3, EPILOGUE = 7, BIAS_POINTER = 8 };
enum PreferenceAttribute : int32_t { MOST_WORKSPACE_BYTES = 1, ALIGNMENT_A = 5, ALIGNMENT_B = 6, ALIGNMENT_C = 7, ALIGNMENT_D = 8 };
constexpr int32_t TRANSPOSED = 1;
constexpr uint32_t EPILOGUE_BIAS = 4;

/** The functions, by the names that they have there. */
struct Functions {
  size_t (*getVersion)();
  Status (*create)(Handle *);
  Status (*destroy)(Handle);
  Status (*createOperation)(Operation *, Compute, Type scale);
  Status (*setOperation)(Operation, OperationAttribute, const void *value, size_t bytes);
  Status (*destroyOperation)(Operation);
  Status (*createLayout)(Layout *, Type, uint64_t rows, uint64_t columns, int64_t columnStride);
  Status (*destroyLayout)(Layout);
  Status (*createPreference)(Preference *);
  Status (*setPreference)(Preference, PreferenceAttribute, const void *value, size_t bytes);
  Status (*destroyPreference)(Preference);
  Status (*getHeuristic)(Handle, Operation, Layout a, Layout b, Layout c, Layout d, Preference, int asked, Heuristic *, int *found);
  Status (*multiply)(Handle, Operation, const void *alpha, const void *a, Layout, const void *b, Layout, const void *beta, const void *c,
                     Layout, void *d, Layout, const Algorithm *, void *workspace, size_t workspaceBytes, cudaStream_t);
};

/** Null where there is no such library, or where it lacks a function. It is never unloaded. */
inline std::unique_ptr<Functions> load(const std::string &file) {
  void *library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto functions = std::make_unique<Functions>();
  bool hasAll = true;
  const auto find = [&](auto &function, const char *name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
    hasAll = hasAll && function != nullptr;
  };
  find(functions->getVersion, "cublasLtGetVersion");
  find(functions->create, "cublasLtCreate");
  find(functions->destroy, "cublasLtDestroy");
  find(functions->createOperation, "cublasLtMatmulDescCreate");
  find(functions->setOperation, "cublasLtMatmulDescSetAttribute");
  find(functions->destroyOperation, "cublasLtMatmulDescDestroy");
  find(functions->createLayout, "cublasLtMatrixLayoutCreate");
  find(functions->destroyLayout, "cublasLtMatrixLayoutDestroy");
  find(functions->createPreference, "cublasLtMatmulPreferenceCreate");
  find(functions->setPreference, "cublasLtMatmulPreferenceSetAttribute");
  find(functions->destroyPreference, "cublasLtMatmulPreferenceDestroy");
  find(functions->getHeuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(functions->multiply, "cublasLtMatmul");
  if (!hasAll) return nullptr;
  return functions;
}

}  // namespace cellbatch::lt
