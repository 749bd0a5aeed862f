// Stands in for libcublasLt.so: matrices by columns, as NVIDIA documents them, multiplied in plain loops. It refuses what it does not
// know, and has other sums for other numbers of columns, as the original may.
#include <cstring>

#include "../cuda/cublas-lt.h"

using namespace cellbatch::lt;

namespace cellbatch::lt {
struct OpaqueHandle {};
struct OpaqueOperation {
  Compute compute;
  int32_t transposeA = 0;
  uint32_t epilogue = 1;
  const float *bias = nullptr;
};
struct OpaqueLayout {
  Type type;
  size_t rows, columns, stride;
};
struct OpaquePreference {
  uint32_t alignmentB = 256;
};
}  // namespace cellbatch::lt

namespace {

constexpr Status DONE = 0, INVALID = 7, NOT_SUPPORTED = 15;

float valueAt(const void *matrix, const OpaqueLayout &layout, size_t row, size_t column) {
  const size_t at = column * layout.stride + row;
  if (layout.type == R_32F) return static_cast<const float *>(matrix)[at];
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(matrix)[at]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

bool isKnown(const OpaqueOperation &operation, const OpaqueLayout &a, const OpaqueLayout &b, const OpaqueLayout &d) {
  const bool fits = operation.transposeA == TRANSPOSED && a.rows == b.rows && d.rows == a.columns && d.columns == b.columns &&
                    a.stride >= a.rows && b.stride >= b.rows && d.stride >= d.rows;
  return fits && a.type == b.type && d.type == R_32F && (operation.epilogue == 1 || operation.bias != nullptr);
}

void multiply(const OpaqueOperation &operation, const void *a, const OpaqueLayout &ofA, const void *b, const OpaqueLayout &ofB, float *d,
              const OpaqueLayout &ofD) {
  const size_t split = 1 + ofD.columns % 3;
  for (size_t column = 0; column < ofD.columns; column++) {
    for (size_t row = 0; row < ofD.rows; row++) {
      float total = 0;
      for (size_t part = 0; part < split; part++) {
        float sum = 0;
        for (size_t k = part; k < ofA.rows; k += split) sum += valueAt(a, ofA, k, row) * valueAt(b, ofB, k, column);
        total += sum;
      }
      d[column * ofD.stride + row] = total + (operation.epilogue == EPILOGUE_BIAS ? operation.bias[row] : 0.0f);
    }
  }
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED size_t cublasLtGetVersion() { return 130000; }
EXPORTED Status cublasLtCreate(Handle *handle) { return *handle = new OpaqueHandle(), DONE; }
EXPORTED Status cublasLtDestroy(Handle handle) { return delete handle, DONE; }
EXPORTED Status cublasLtMatmulDescCreate(Operation *operation, Compute compute, Type scale) {
  if (scale != R_32F || (compute != COMPUTE_32F && compute != COMPUTE_32F_FAST_TF32)) return INVALID;
  return *operation = new OpaqueOperation{compute}, DONE;
}
EXPORTED Status cublasLtMatmulDescSetAttribute(Operation operation, OperationAttribute name, const void *value, size_t bytes) {
  if (name == TRANSPOSE_A && bytes == sizeof(int32_t)) return std::memcpy(&operation->transposeA, value, bytes), DONE;
  if (name == EPILOGUE && bytes == sizeof(uint32_t)) return std::memcpy(&operation->epilogue, value, bytes), DONE;
  if (name == BIAS_POINTER && bytes == sizeof(void *)) return std::memcpy(&operation->bias, value, bytes), DONE;
  return INVALID;
}
EXPORTED Status cublasLtMatmulDescDestroy(Operation operation) { return delete operation, DONE; }
EXPORTED Status cublasLtMatrixLayoutCreate(Layout *layout, Type type, uint64_t rows, uint64_t columns, int64_t stride) {
  return *layout = new OpaqueLayout{type, rows, columns, static_cast<size_t>(stride)}, DONE;
}
EXPORTED Status cublasLtMatrixLayoutDestroy(Layout layout) { return delete layout, DONE; }
EXPORTED Status cublasLtMatmulPreferenceCreate(Preference *preference) { return *preference = new OpaquePreference(), DONE; }
EXPORTED Status cublasLtMatmulPreferenceSetAttribute(Preference preference, PreferenceAttribute name, const void *value, size_t bytes) {
  if (name == MOST_WORKSPACE_BYTES && bytes == sizeof(uint64_t)) return DONE;
  if (name == ALIGNMENT_B && bytes == sizeof(uint32_t)) return std::memcpy(&preference->alignmentB, value, bytes), DONE;
  return INVALID;
}
EXPORTED Status cublasLtMatmulPreferenceDestroy(Preference preference) { return delete preference, DONE; }

/** The algorithm remembers what it may rely on, and that it was given here. */
EXPORTED Status cublasLtMatmulAlgoGetHeuristic(Handle, Operation operation, Layout a, Layout b, Layout, Layout d, Preference preference,
                                               int asked, Heuristic *best, int *found) {
  *found = 0;
  // No way for a single column, so that callers need one of their own.
  if (asked < 1 || !isKnown(*operation, *a, *b, *d) || d->columns == 1) return NOT_SUPPORTED;
  *best = {{{preference->alignmentB, d->columns}}, 0, DONE, 1, {}};
  return *found = 1, DONE;
}

EXPORTED Status cublasLtMatmul(Handle, Operation operation, const void *alpha, const void *a, Layout ofA, const void *b, Layout ofB,
                               const void *beta, const void *c, Layout, void *d, Layout ofD, const Algorithm *algorithm, void *, size_t,
                               cudaStream_t stream) {
  const bool isPlain = *static_cast<const float *>(alpha) == 1 && *static_cast<const float *>(beta) == 0 && c == d;
  const bool isAligned = reinterpret_cast<uintptr_t>(b) % algorithm->words[0] == 0;
  if (!isPlain || !isAligned || algorithm->words[1] != ofD->columns || !isKnown(*operation, *ofA, *ofB, *ofD)) return INVALID;
  emulatedEnqueue(stream, [one = *operation, a, ofA = *ofA, b, ofB = *ofB, d, ofD = *ofD] {
    multiply(one, a, ofA, b, ofB, static_cast<float *>(d), ofD);
  });
  return DONE;
}
