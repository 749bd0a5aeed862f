import { fileURLToPath } from "node:url";
import type { ModelDefinition } from "../../models/definition.ts";
import { chainOf, lstmCell } from "../../src/bench/synthetic.ts";

/** Values of one input step of `chain` and `listener`. */
export const WIDTH = 32;

const cell = lstmCell(WIDTH);
const inputs = [{ name: "x", dtype: "float32" as const, shape: [-1, WIDTH] }];

/** Requests whose answers have every step, and sessions. */
export const models: readonly ModelDefinition[] = [
  {
    ...chainOf("chain", cell),
    program: { kind: "chain", cell: cell.name, collect: "all" },
    outputs: [{ name: "h", dtype: "float32", shape: [-1, WIDTH] }],
  },
  { ...chainOf("listener", cell), program: { kind: "session", cell: cell.name }, inputs },
];

/** The module of a model that ends its engine's thread. */
export const deadlyModule = fileURLToPath(new URL("deadly-model.js", import.meta.url));
