import type { Values } from "./types.ts";

/** How large a request is: the characters of its text or the leading axis of its tensors, whichever is more; at least 1. */
export function requestSize(inputs: Values): number {
  let size = 1;
  for (const value of Object.values(inputs))
    size = Math.max(size, typeof value === "string" ? value.length : (value.shape[0] ?? 1));
  return size;
}
