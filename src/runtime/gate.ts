import type { Gate } from "../../models/pipeline.ts";

export interface GateState {
  readonly isOpen: boolean;
  /** Steps that it stays open below its lower threshold. */
  readonly left: number;
}

export const CLOSED: GateState = { isOpen: false, left: 0 };

/** A gate after a step at which its output was `value`; undefined where there was none. */
export function gateAfter(
  { open, close, hold }: Pick<Gate, "open" | "close" | "hold">,
  { isOpen, left }: GateState,
  value: number | undefined,
): GateState {
  if (!isOpen) return value !== undefined && value >= open ? { isOpen: true, left: hold } : CLOSED;
  if (value !== undefined && value >= close) return { isOpen: true, left: hold };
  return left > 0 ? { isOpen: true, left: left - 1 } : CLOSED;
}
