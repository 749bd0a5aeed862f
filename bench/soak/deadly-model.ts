import { lstmCell } from "../../src/bench/synthetic.ts";
import { defineModel } from "../../src/runtime/index.ts";

const cell = lstmCell(4);

/** Ends its engine's thread whenever it is asked: what a crash in native code does. */
export default defineModel({
  name: "deadly",
  cells: [cell],
  inputs: [{ name: "x", dtype: "float32", shape: [-1, 4] }],
  outputs: cell.outputs,
  unfold: () => process.exit(1),
});
