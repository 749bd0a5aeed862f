import { ClientError } from "./errors.ts";
import type { Values } from "./values.ts";

/** Throws INVALID_INPUT where `steps` and the inputs do not agree. */
export function checkPush(inputs: Values, steps: number | undefined): void {
  if (steps === undefined) return;
  if (!Number.isInteger(steps) || steps < 1) {
    throw new ClientError("INVALID_INPUT", `'steps' is ${steps}, it must be an integer of 1 or more`);
  }
  for (const [name, value] of Object.entries(inputs)) {
    if (typeof value === "string") {
      throw new ClientError(
        "INVALID_INPUT",
        `input '${name}' is text, which cannot be pushed as ${steps} steps`,
      );
    }
    if (value.shape[0] !== steps) {
      const message = `input '${name}' of shape [${value.shape.join(", ")}] has no leading axis of ${steps} steps`;
      throw new ClientError("INVALID_INPUT", message);
    }
  }
}
