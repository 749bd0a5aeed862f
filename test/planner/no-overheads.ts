import type { Overheads } from "../../planner/overheads.ts";

/** A server that costs nothing besides its kernels. */
export const noOverheads: Overheads = {
  requestMs: 0,
  taskMs: 0,
  rowMs: 0,
  publishMs: 0,
  hopMs: 0,
  sizeMs: 0,
  idle: [],
};
