import type { ModelDefinition } from "../../models/definition.ts";

/** A definition whose weights lie in memory that threads share, so that every thread has them for nothing. */
export function shareWeights(definition: ModelDefinition): ModelDefinition {
  return shared(definition) as ModelDefinition;
}

/** Bytes of the arrays of numbers in a definition. */
export function bytesOfWeights(value: unknown): number {
  if (ArrayBuffer.isView(value)) return value.byteLength;
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce((sum, one) => sum + bytesOfWeights(one), 0);
}

function shared(value: unknown): unknown {
  if (value instanceof Float32Array) {
    if (value.buffer instanceof SharedArrayBuffer) return value;
    const copy = new Float32Array(new SharedArrayBuffer(value.byteLength));
    copy.set(value);
    return copy;
  }
  if (Array.isArray(value)) return value.map(shared);
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, shared(one)]));
}
