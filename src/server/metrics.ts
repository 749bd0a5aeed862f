import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { Runtime, RuntimeStats } from "../runtime/types.ts";
import { engineMetrics } from "./engine-metrics.ts";
import type { Evictions } from "./evictions.ts";
import type { Sequences } from "./oip/sequences.ts";
import type { Statistics } from "./oip/statistics.ts";
import { requestMetrics } from "./request-metrics.ts";
import type { Resumables } from "./resumables.ts";

/** What the metrics are read from besides the runtime. */
export interface Measured {
  readonly connections: () => number;
  readonly sequences: Sequences;
  readonly statistics: Statistics;
  readonly resumables: Resumables;
  readonly evictions: Evictions;
}

/** What Prometheus sees of a runtime; read when it is asked for. */
export function metricsOf(
  runtime: Runtime,
  { connections, sequences, statistics, resumables, evictions }: Measured,
): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name: `cellbatch_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  const counter = (name: string, help: string, key: keyof RuntimeStats) => {
    let last = 0;
    return new Counter({
      name: `cellbatch_${name}_total`,
      help,
      registers: [registry],
      collect() {
        const now = runtime.stats()[key];
        if (now > last) this.inc(now - last);
        last = now;
      },
    });
  };
  gauge("connections", "Open WebSocket connections.", connections);
  gauge(
    "active",
    "Requests and sessions that were accepted and have not ended.",
    () => runtime.stats().active,
  );
  gauge("rows", "Rows of the last task, summed over engines.", () => runtime.stats().rows);
  gauge("sequences", "Open sequences of HTTP and gRPC.", () => sequences.size);
  gauge("sessions_parked", "Sessions that wait for a client whose socket is gone.", () => resumables.parked);
  new Counter({
    name: "cellbatch_evictions_total",
    help: "Sessions and sequences that the server ended, by reason.",
    labelNames: ["reason"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, count] of evictions.counts) this.inc({ reason }, count);
    },
  });
  new Counter({
    name: "cellbatch_sequences_ended_total",
    help: "Sequences that ended before their clients said so, by reason.",
    labelNames: ["reason"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, count] of sequences.ended) this.inc({ reason }, count);
    },
  });
  gauge("engines", "Engines.", () => runtime.stats().engines);
  counter("accepted", "Requests and sessions that were accepted.", "accepted");
  counter("completed", "Requests and sessions that ended with a result.", "completed");
  counter("failed", "Requests and sessions that ended with an error.", "failed");
  counter("cells", "Cells that have run.", "cells");
  counter("tasks", "Batched cells that have run.", "tasks");
  counter("engine_restarts", "Engines that died and were started again.", "restarts");
  engineMetrics(registry, runtime);
  statistics.observe(requestMetrics(registry, () => runtime.models, statistics));
  return registry;
}
