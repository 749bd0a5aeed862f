import { Fault } from "../../../src/core/faults.ts";

/** A file that is no usable ONNX file. */
export function refuse(why: string): Fault {
  return new Fault("INVALID_REQUEST", `the ONNX file cannot be used: ${why}`);
}

/** A graph that is valid but cannot be cut into cells, with the node that stands in the way. */
export class Uncuttable extends Error {
  constructor(why: string) {
    super(why);
    this.name = "Uncuttable";
  }
}
