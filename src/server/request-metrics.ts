import { Counter, Histogram, type Registry } from "prom-client";
import type { Served, Statistics } from "./oip/statistics.ts";

/**
 * What Prometheus sees of requests, by model; observed once per request, when it has ended. Names as vLLM's, and for the
 * sums those of Triton too, where the meaning is the same. Answers what is to be told of every request.
 */
export function requestMetrics(
  registry: Registry,
  models: () => readonly { readonly name: string; readonly version: string }[],
  statistics: Statistics,
): (model: string, served: Served) => void {
  const registers = [registry];
  const seconds = (name: string, help: string) =>
    new Histogram({
      name: `cellbatch_${name}_seconds`,
      help,
      labelNames: ["model"],
      buckets: BUCKETS,
      registers,
    });
  const requests = new Counter({
    name: "cellbatch_requests_total",
    help: "Requests, sessions and requests of sequences that have ended, by code: OK or that of the fault.",
    labelNames: ["model", "code"],
    registers,
  });
  const duration = seconds("request_duration", "From a request's acceptance to its result.");
  const queue = seconds("request_queue", "From a request's acceptance until its first cell ran.");
  const compute = seconds("request_compute", "From a request's first cell to its result.");
  const first = seconds(
    "time_to_first_output",
    "From the acceptance of a streamed request to its first output.",
  );
  const each = seconds("time_per_output", "Mean time between the outputs of a streamed request.");
  addTriton(registry, models, statistics);
  return (model, { code, totalMs, queueMs, computeMs, firstMs, perOutputMs }) => {
    requests.inc({ model, code });
    if (code !== "OK") return;
    duration.observe({ model }, totalMs / 1000);
    queue.observe({ model }, queueMs / 1000);
    compute.observe({ model }, computeMs / 1000);
    if (firstMs !== undefined) first.observe({ model }, firstMs / 1000);
    if (perOutputMs !== undefined) each.observe({ model }, perOutputMs / 1000);
  };
}

/** From less than one cell takes to a long sequence in a long queue. */
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Triton's names for what Triton counts too, in its units: microseconds. */
function addTriton(
  registry: Registry,
  models: () => readonly { readonly name: string; readonly version: string }[],
  statistics: Statistics,
): void {
  const counter = (
    name: string,
    help: string,
    read: (sums: ReturnType<Statistics["sums"]>) => Readonly<Record<string, number>>,
    label?: string,
  ) =>
    new Counter({
      name: `nv_inference_${name}`,
      help,
      labelNames: ["model", "version", ...(label ? [label] : [])],
      registers: [registry],
      collect() {
        this.reset();
        for (const { name: model, version } of models()) {
          for (const [key, value] of Object.entries(read(statistics.sums({ name: model, version })))) {
            this.inc({ model, version, ...(label ? { [label]: key } : {}) }, value);
          }
        }
      },
    });
  const us = (ms: number) => Math.round(ms * 1000);
  counter("request_success", "As cellbatch_requests_total with code OK.", ({ success }) => ({
    all: success.count,
  }));
  counter("request_failure", "As cellbatch_requests_total with other codes.", ({ fail }) => fail, "reason");
  counter("request_duration_us", "As the sum of cellbatch_request_duration_seconds.", ({ success }) => ({
    all: us(success.ms),
  }));
  counter("queue_duration_us", "As the sum of cellbatch_request_queue_seconds.", ({ queue }) => ({
    all: us(queue.ms),
  }));
  counter("compute_infer_duration_us", "As the sum of cellbatch_request_compute_seconds.", ({ compute }) => ({
    all: us(compute.ms),
  }));
}
