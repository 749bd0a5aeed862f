import type { RecordedBuffers, RecordedType, RunChange } from "../core/recording.ts";

/** All times are whole microseconds on one clock for the engines of a server. */

/** When something happens to a request: at a time after its arrival, or once this many of its cells have run. */
export type Trigger = { readonly afterUs: number } | { readonly cells: number };

/** What happens to a run of a request, apart from its cells. */
export interface Change {
  readonly kind: "add" | Exclude<RunChange, "settle">;
  readonly run: WorkRun;
  readonly when: Trigger;
  /** Of `extend`. */
  readonly steps: number;
}

/** A run of cells, as it was asked for and as it came out. */
export interface WorkRun {
  readonly request: WorkRequest;
  /** The same on all engines of a server. */
  readonly cell: string;
  /** Known when it was added; what it took, where only its cells could tell. */
  steps: number;
  readonly isOpen: boolean;
  readonly stepsAhead: boolean;
  readonly after: readonly WorkRun[];
  /** Cells that were submitted. */
  done: number;
}

export interface WorkRequest {
  readonly kind: "cells";
  readonly arrivalUs: number;
  readonly priority: number;
  /** From its arrival; `Infinity` for none. */
  readonly timeoutUs: number;
  /** In the order in which they happened. */
  readonly changes: Change[];
  /** Cells that have run. */
  cells: number;
  /** Runs that have not ended. */
  open: number;
  /** When its last run ended; negative before. */
  endUs: number;
  /** Ended by somebody, not by itself. */
  wasRemoved: boolean;
  /** Its steps come while it runs, so that its length says nothing of the server. */
  readonly isSession: boolean;
}

/** A request for a whole graph. */
export interface WholeRequest {
  readonly kind: "whole";
  readonly graph: number;
  readonly arrivalUs: number;
  readonly size: number;
  readonly priority: number;
  readonly timeoutUs: number;
  /** From its arrival until somebody took it out before it was in a batch; `Infinity` where nobody did. */
  removedAfterUs: number;
  endUs: number;
  wasRemoved: boolean;
}

/** One batch that ran. */
export interface WorkBatch {
  /** Of a cell, or of a whole graph. */
  readonly name: string;
  readonly rows: number;
  readonly steps: number;
  /** Of whole requests: the largest. 0 for cells. */
  readonly size: number;
  readonly beginUs: number;
  /** Negative where it has not ended. */
  endUs: number;
  /** From its end until the next began, where more cells were ready; else negative. */
  untilNextUs: number;
}

export interface BufferChange extends RecordedBuffers {
  readonly atUs: number;
}

/** What one engine was given and what it did. */
export interface LifeWork {
  readonly startUs: number;
  /** By cell. */
  readonly types: Map<string, RecordedType>;
  readonly requests: (WorkRequest | WholeRequest)[];
  readonly batches: WorkBatch[];
  readonly buffers: BufferChange[];
}

/** The name of a cell on all engines: versions of a model are apart by the number of their family. */
export function cellKey({ family, priority }: Pick<RecordedType, "family" | "priority">): string {
  return `${family}/${priority}`;
}
