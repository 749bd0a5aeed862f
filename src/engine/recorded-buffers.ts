import {
  type Batch,
  BufferSet,
  type BufferSetOptions,
  type BufferSettings,
  type Waiting,
} from "../../scheduler/buffer.ts";
import type { DecisionLog } from "./decision-log.ts";

/** Buffers of a whole graph that write down what changes them and the batches that they give. */
export class RecordedBuffers extends BufferSet {
  readonly #log: DecisionLog;
  readonly #graph: number;

  constructor(
    buffers: readonly BufferSettings[],
    options: BufferSetOptions,
    { log, graph }: { readonly log: DecisionLog; readonly graph: number },
  ) {
    super(buffers, options);
    this.#log = log;
    this.#graph = graph;
  }

  override add(request: Waiting, now: number): void {
    const { id, size, priority = 5, deadlineMs = Number.POSITIVE_INFINITY } = request;
    super.add(request, now);
    this.#log.waits(this.#graph, { id, size, priority, deadlineMs }, now);
  }

  override remove(id: number): boolean {
    const wasThere = super.remove(id);
    if (wasThere) this.#log.leaves(this.#graph, id);
    return wasThere;
  }

  override due(now: number, isIdle: boolean): Batch | undefined {
    const batch = super.due(now, isIdle);
    if (batch) this.#log.batch(this.#graph, isIdle, now, batch.ids);
    return batch;
  }
}
