import type { Metric, Registry } from "prom-client";
import type { CellMeters, EngineMeters, Runtime } from "../runtime/types.ts";

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [Labels, number];

/**
 * What Prometheus sees of engines. They count on their own threads and are asked at each scrape; one that does not answer is
 * seen as it was at the last one.
 */
export function engineMetrics(registry: Registry, runtime: Pick<Runtime, "meters">): void {
  const meters = new LastMeters(runtime);
  const register = (metric: Sampled) => registry.registerMetric(metric as unknown as Metric);
  const add = (
    type: "counter" | "gauge",
    ownName: string,
    help: string,
    read: (meters: EngineMeters) => readonly Sample[],
  ) => {
    const name = `cellbatch_${ownName}`;
    const get = async () => ({
      name,
      help,
      type,
      values: [...(await meters.current())].flatMap(([engine, counted]) =>
        read(counted).map(([labels, value]) => ({ labels: { ...labels, engine: String(engine) }, value })),
      ),
    });
    register({ name, get });
  };
  const perCell = (value: (cell: CellMeters) => number) => (meters: EngineMeters) =>
    meters.cells.map((cell): Sample => [labelsOf(cell), value(cell)]);
  const whole =
    (value: (meters: EngineMeters) => number) =>
    (meters: EngineMeters): readonly Sample[] => [[{}, value(meters)]];
  add(
    "gauge",
    "rows_running",
    "Runs of cells that hold a row place.",
    perCell(({ running }) => running),
  );
  add(
    "gauge",
    "rows_waiting",
    "Runs of cells that wait for a row place.",
    perCell(({ waiting }) => waiting),
  );
  add(
    "gauge",
    "requests_paused",
    "Requests whose reader is slow.",
    whole(({ paused }) => paused),
  );
  add("gauge", "slots_used", "Slots that hold a state.", ({ slots }) =>
    slots.map(({ model, used }): Sample => [{ model }, used]),
  );
  add(
    "counter",
    "cell_seconds_total",
    "Time of tasks, from their hand-over to the kernel until their outputs were taken.",
    perCell(({ busyMs }) => busyMs / 1000),
  );
  add(
    "counter",
    "scheduler_seconds_total",
    "Time in which the scheduler chose tasks.",
    whole(({ scheduleMs }) => scheduleMs / 1000),
  );
  add(
    "counter",
    "scheduler_decisions_total",
    "Tasks that the scheduler chose.",
    whole(({ decisions }) => decisions),
  );
  register(batchRows(() => meters.current()));
}

/** A metric whose samples are made when they are asked for: what prom-client's registry needs of one. */
interface Sampled {
  readonly name: string;
  get(): Promise<{
    readonly name: string;
    readonly help: string;
    readonly type: "counter" | "gauge" | "histogram";
    readonly values: readonly {
      readonly metricName?: string;
      readonly labels: Labels;
      readonly value: number;
    }[];
  }>;
}

/** prom-client's own histograms are told of values one by one; these were counted elsewhere. */
function batchRows(current: () => Promise<Meters>): Sampled {
  const name = "cellbatch_batch_rows";
  const get = async () => {
    const values = [...(await current())].flatMap(([engine, { cells }]) =>
      cells.flatMap((cell) => {
        const labels = { ...labelsOf(cell), engine: String(engine) };
        let sum = 0;
        const buckets = cell.buckets.map((count, i) => {
          sum += count;
          return { metricName: `${name}_bucket`, labels: { ...labels, le: String(2 ** i) }, value: sum };
        });
        return [
          ...buckets,
          { metricName: `${name}_bucket`, labels: { ...labels, le: "+Inf" }, value: cell.tasks },
          { metricName: `${name}_sum`, labels, value: cell.rows },
          { metricName: `${name}_count`, labels, value: cell.tasks },
        ];
      }),
    );
    return {
      name,
      help: "Rows of a batched cell, or requests of a batch of whole graphs.",
      type: "histogram" as const,
      values,
    };
  };
  return { name, get };
}

type Meters = ReadonlyMap<number, EngineMeters>;

/** The meters of all engines, asked for once by all metrics of a scrape. */
class LastMeters {
  readonly #runtime: Pick<Runtime, "meters">;
  readonly #last = new Map<number, EngineMeters>();
  #asking: Promise<Meters> | undefined;

  constructor(runtime: Pick<Runtime, "meters">) {
    this.#runtime = runtime;
  }

  current(): Promise<Meters> {
    this.#asking ??= this.#ask();
    return this.#asking;
  }

  async #ask(): Promise<Meters> {
    try {
      for (const [engine, meters] of await this.#runtime.meters()) this.#last.set(engine, meters);
      return this.#last;
    } finally {
      this.#asking = undefined;
    }
  }
}

function labelsOf({ model, cell }: CellMeters): Labels {
  return { model, cell };
}
