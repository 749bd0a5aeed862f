import { describe, expect, it } from "vitest";
import { adviceFor, type NativeReason, nativeStatus } from "../../kernels/native/load.ts";

const card = { name: "Tesla V100", capability: 7, processors: 80, memoryBytes: 2 ** 34 };
const found = { detail: "what CUDA says", driver: 12040, runtime: 13000, cards: [], vectorBits: 512 };

describe("what is said of a GPU", () => {
  const sentences: Record<NativeReason, string> = {
    ok: "cells can run on Tesla V100",
    "not-built":
      "the CUDA kernel was not built (what CUDA says): install the CUDA toolkit and run 'npm run build:native'",
    "no-driver": "there is no CUDA driver: install NVIDIA's driver, or start the container with its GPUs",
    "driver-too-old":
      "the CUDA driver is for 12.4, the kernel was built for 13.0: update the driver, or build with an older toolkit",
    "no-device": "the CUDA driver finds no GPU (what CUDA says): check 'nvidia-smi' and CUDA_VISIBLE_DEVICES",
    "arch-unsupported":
      "the kernel was not built for Tesla V100 (compute capability 7): it needs 8.0 or later",
  };

  it.each(Object.entries(sentences))("tells a user what to do where the state is %s", (reason, sentence) => {
    const cards = reason === "ok" || reason === "arch-unsupported" ? [card] : [];
    expect(adviceFor({ ...found, reason: reason as NativeReason, cards })).toBe(sentence);
  });

  it("is one of these on this machine", () => {
    const status = nativeStatus();
    expect(Object.keys(sentences)).toContain(status.reason);
    expect(status.message).toBe(adviceFor(status));
  });
});
