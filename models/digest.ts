import { createHash, type Hash } from "node:crypto";
import type { ModelDefinition } from "./definition.ts";

/** Names what a model's cells compute, weights and all: equal digests, equal cells. SHA-256, as `sha256:` and hexadecimal digits. */
export function cellsDigest({ cells }: Pick<ModelDefinition, "cells">): string {
  const hash = createHash("sha256");
  add(hash, cells);
  return `sha256:${hash.digest("hex")}`;
}

/** Everything is written with its length or its end, so that no two values give the same bytes. */
function add(hash: Hash, value: unknown): void {
  if (ArrayBuffer.isView(value)) {
    hash.update(`bytes ${value.byteLength}\n`);
    hash.update(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  } else if (Array.isArray(value)) {
    hash.update(`list ${value.length}\n`);
    for (const one of value) add(hash, one);
  } else if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, one]) => one !== undefined);
    hash.update(`object ${entries.length}\n`);
    for (const [name, one] of entries.sort(([a], [b]) => (a < b ? -1 : 1))) {
      add(hash, name);
      add(hash, one);
    }
  } else {
    const text = JSON.stringify(value) ?? "undefined";
    hash.update(`value ${text.length} ${text}\n`);
  }
}
