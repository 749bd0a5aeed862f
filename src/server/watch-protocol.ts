/** What `GET /v1/watch` sends and `GET /v1/models` answers. Types only: the pages share this file. */

/** One batched cell. */
export interface WatchStep {
  readonly engine: number;
  readonly model: string;
  readonly cell: string;
  readonly start_ms: number;
  readonly ms: number;
  readonly rows: number;
  /** Steps of every row in this one call. */
  readonly steps: number;
  /** Requests of the first 64 rows, in the order in which the server accepted them. */
  readonly requests: readonly number[];
}

/** What happened since the report before. */
export interface WatchReport {
  /** The server's clock, from an arbitrary origin; the steps' times are on it too. */
  readonly now_ms: number;
  /** Counts since the server began. */
  readonly stats: {
    readonly engines: number;
    readonly active: number;
    readonly accepted: number;
    readonly completed: number;
    readonly failed: number;
    readonly cells: number;
    readonly tasks: number;
    readonly rows: number;
  };
  readonly steps: readonly WatchStep[];
  /** Requests and sessions that ended: number, model, and the time until its result of a request that came to one. */
  readonly ended: readonly (readonly [request: number, model: string, ms: number | null])[];
  /** What was too much to tell. */
  readonly left_out: { readonly tasks: number; readonly cells: number; readonly ended: number };
}

export interface WireValueSpec {
  readonly name: string;
  readonly type: "text" | "float32" | "int32";
  readonly shape: readonly number[];
}

export interface WireModel {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly program: string;
  readonly streaming: boolean;
  readonly inputs: readonly WireValueSpec[];
  readonly outputs: readonly WireValueSpec[];
  readonly example?: Readonly<Record<string, string>>;
  readonly cells: readonly { readonly name: string; readonly kind: string; readonly maxBatch: number }[];
}

/** Buffers of a model that is one graph, ascending by the largest size that each takes. */
export interface WireBuffers {
  readonly buffers: readonly {
    readonly upTo?: number | undefined;
    readonly maxBatch: number;
    readonly timeoutMs: number;
  }[];
  /** Whether a batch that is not full goes as soon as an engine is idle. */
  readonly eager: boolean;
}

/** What was decided about the buffers of a model, as `GET /v2/decisions` lists it. */
export interface WireDecision extends WireBuffers {
  readonly model: string;
  /** On the wall clock, as ISO 8601. */
  readonly at: string;
  readonly action: "swapped" | "kept" | "infeasible" | "failed";
  readonly reason: string;
  readonly before: WireBuffers;
}
