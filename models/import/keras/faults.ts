import { Fault } from "../../../src/core/faults.ts";

/** A Keras model that cannot be taken; `why` names the file, layer or value at fault. */
export function refuse(why: string): Fault {
  return new Fault("INVALID_REQUEST", `the Keras model cannot be taken: ${why}`);
}

/** `'name' (Class)`, as faults name a layer. */
export function sayLayer({ name, className }: { readonly name: string; readonly className: string }): string {
  return `layer '${name}' (${className})`;
}
