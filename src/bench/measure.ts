import type { Arrivals } from "../load/arrivals.ts";
import { median } from "../load/statistics.ts";
import { type Answer, Arm, type Question } from "./arm.ts";
import type { ArmReport, LoadPoint, Measured, WorkloadReport } from "./report.ts";
import type { Setting, Workload, WorkloadArm } from "./workloads.ts";

export interface MeasureSettings {
  readonly rounds: number;
  readonly seconds: number;
  readonly loads: readonly number[];
  readonly arrivals: Arrivals;
  /** Ends it at once; what was measured is answered. */
  readonly signal: AbortSignal;
  readonly step: () => void;
  readonly tell: (line: string) => void;
}

/** How many times `step` is called at most. */
export function stepsOf({ arms, hasLatency }: Workload, { rounds, loads }: MeasureSettings): number {
  const sweeps = hasLatency ? arms.filter(({ role }) => role !== "limit").length * loads.length * rounds : 0;
  return arms.reduce((sum, arm) => sum + tries(arm, hasLatency), 0) + arms.length * rounds + sweeps;
}

function tries({ settings, variants }: WorkloadArm, hasLatency: boolean): number {
  const alike = settings.length > 1 ? settings.length : 0;
  return alike + (variants && hasLatency ? variants(settings[0]!).length : 0);
}

/** An arm while it is measured. */
interface Running {
  readonly arm: WorkloadArm;
  setting: Setting;
  readonly tried: ArmReport["tried"][number][];
  readonly peaks: Answer[];
  readonly points: { readonly load: number; readonly rate: number; readonly answers: Answer[] }[];
}

/** Measures every arm of a workload, each in a process of its own; in the other order in every second round. */
export async function measureWorkload(
  workload: Workload,
  settings: MeasureSettings,
): Promise<WorkloadReport> {
  const { rounds, signal, tell } = settings;
  const running = workload.arms.map(
    (arm): Running => ({ arm, setting: arm.settings[0]!, tried: [], peaks: [], points: [] }),
  );
  const open = new Map<Setting, Arm>();
  const closeAll = () => {
    for (const arm of open.values()) arm.close();
    open.clear();
  };
  const ask = async (setting: Setting, question: Question): Promise<Answer> => {
    signal.throwIfAborted();
    let arm = open.get(setting);
    if (!arm) {
      arm = new Arm(setting.subject);
      open.set(setting, arm);
    }
    const answer = await arm.ask(question);
    settings.step();
    return answer;
  };
  signal.addEventListener("abort", closeAll);
  try {
    for (const one of running) await choose(one, workload, settings, ask, tell);
    for (let round = 0; round < rounds; round++) {
      for (const one of ordered(running, round))
        one.peaks.push(await ask(one.setting, peakOf(workload, settings)));
    }
    for (const { arm, peaks } of running)
      tell(
        `${arm.name}: ${figure(median(peaks.map(rateOf)))} ${arm.role === "limit" ? "cells" : workload.unit} per second`,
      );
    if (workload.hasLatency) await sweep(running, workload, settings, ask, tell);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", closeAll);
    closeAll();
  }
  return {
    name: workload.name,
    what: workload.what,
    unit: workload.unit,
    notes: workload.notes,
    arms: running.map(reportOf),
  };
}

type Ask = (setting: Setting, question: Question) => Promise<Answer>;
type Tell = (line: string) => void;

const rateOf = ({ figures }: Answer) => figures.rate ?? 0;
const ordered = <T>(list: readonly T[], round: number) => (round % 2 === 0 ? list : list.toReversed());

function peakOf({ lengths, inFlight }: Workload, { seconds }: MeasureSettings): Question {
  return { ask: "peak", lengths, inFlight, seconds };
}

/** Takes the setting with the highest peak, then of its variants the one with the lowest p99 at 70 % of that. */
async function choose(one: Running, workload: Workload, settings: MeasureSettings, ask: Ask, tell: Tell) {
  const { arm, tried } = one;
  let peak = 0;
  if (arm.settings.length > 1) {
    for (const setting of arm.settings) {
      const rate = rateOf(await ask(setting, peakOf(workload, settings)));
      tried.push({ setting: setting.words, by: `${workload.unit} per second`, value: rate });
      if (rate <= peak) continue;
      peak = rate;
      one.setting = setting;
    }
  }
  if (!arm.variants || !workload.hasLatency || peak === 0) return;
  const chosen = one.setting;
  let least = Number.POSITIVE_INFINITY;
  for (const setting of arm.variants(chosen)) {
    const { figures } = await ask(setting, latencyAt(workload, settings, CHOSEN_AT * peak, 0));
    tried.push({ setting: setting.words, by: "p99 in ms at 70 % of its peak", value: figures.p99! });
    if (figures.p99! >= least) continue;
    least = figures.p99!;
    one.setting = setting;
  }
  tell(`${arm.name}: ${one.setting.words}`);
}

const CHOSEN_AT = 0.7;

function latencyAt({ lengths }: Workload, settings: MeasureSettings, rate: number, round: number): Question {
  const { arrivals } = settings;
  const seconds = Math.max(settings.seconds, FEWEST / rate);
  return { ask: "latency", lengths, seconds, rate, seed: round + 1, arrivals };
}

/** Requests of a measurement, so that a low rate has a 99th percentile too. */
const FEWEST = 200;

/** All arms at shares of the highest peak among them; an arm is left out once the rate is above what it reached. */
async function sweep(
  running: readonly Running[],
  workload: Workload,
  settings: MeasureSettings,
  ask: Ask,
  tell: Tell,
) {
  const { rounds, loads } = settings;
  const serving = running.filter(({ arm }) => arm.role !== "limit");
  const peaks = new Map(serving.map((one) => [one, median(one.peaks.map(rateOf))]));
  const highest = Math.max(...peaks.values());
  if (highest === 0) {
    tell("no arm answered a request in time, so there are no latencies: measure for more --seconds");
    return;
  }
  for (const load of loads) {
    const rate = load * highest;
    const able = serving.filter((one) => rate <= STILL_ABLE * peaks.get(one)!);
    for (const one of able) one.points.push({ load, rate, answers: [] });
    for (let round = 0; round < rounds; round++) {
      for (const one of ordered(able, round)) {
        one.points.at(-1)!.answers.push(await ask(one.setting, latencyAt(workload, settings, rate, round)));
      }
      for (let left = serving.length - able.length; left > 0; left--) settings.step();
    }
    const p99 = able.map(({ arm, points }) => {
      const value = median(points.at(-1)!.answers.map(({ figures }) => figures.p99!));
      return `${arm.name} ${figure(value)}`;
    });
    tell(
      `${figure(rate)} ${workload.unit} per second (${Math.round(100 * load)} %), p99 in ms: ${p99.join(", ")}`,
    );
  }
}

/** Above this share of its peak an arm's latency says only how long it was measured. */
const STILL_ABLE = 0.97;

function reportOf({ arm, setting, tried, peaks, points }: Running): ArmReport {
  const measured = points.filter(({ answers }) => answers.length > 0).map(pointOf);
  const cells = peaks.flatMap(({ figures }) => figures.cellsPerSecond ?? []);
  const rows = peaks.flatMap(({ figures }) => figures.rows ?? []);
  const last = peaks.at(-1)?.batches ?? [];
  return {
    name: arm.name,
    role: arm.role,
    setting: setting.words,
    tried,
    ...(peaks.length > 0 ? { peak: measuredOf(peaks.map(rateOf)) } : {}),
    ...(cells.length > 0 ? { cellsPerSecond: measuredOf(cells) } : {}),
    ...(rows.length > 0 ? { rows: median(rows) } : {}),
    points: measured,
    batches: sharesOf([last]),
  };
}

function pointOf({ load, rate, answers }: Running["points"][number]): LoadPoint {
  const all = (name: string) => answers.map(({ figures }) => figures[name] ?? 0);
  const [meanMs, queueMs, computeMs] = ["meanMs", "queueMs", "computeMs"].map((name) => median(all(name)));
  const curves = answers.flatMap(({ curve }) => (curve?.length ? [curve] : []));
  const sent = all("sent").reduce((a, b) => a + b, 0);
  return {
    load,
    rate,
    answersPerSecond: measuredOf(all("answersPerSecond")),
    p50: measuredOf(all("p50")),
    p90: measuredOf(all("p90")),
    p99: measuredOf(all("p99")),
    split: {
      queueMs: queueMs!,
      computeMs: computeMs!,
      overheadMs: Math.max(0, meanMs! - queueMs! - computeMs!),
    },
    curve: (curves[0] ?? []).map((_, i) => median(curves.map((curve) => curve[i]!))),
    batches: sharesOf(answers.map(({ batches = [] }) => batches)),
    failedShare: sent === 0 ? 0 : 1 - all("answered").reduce((a, b) => a + b, 0) / sent,
    warnings: [...new Set(answers.flatMap(({ bottleneck }) => bottleneck ?? []))],
  };
}

function measuredOf(raw: readonly number[]): Measured {
  return { median: median(raw), raw };
}

function sharesOf(lists: readonly (readonly (readonly [number, number])[])[]): [number, number][] {
  const counts = new Map<number, number>();
  for (const list of lists)
    for (const [rows, count] of list) counts.set(rows, (counts.get(rows) ?? 0) + count);
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  return [...counts].sort(([a], [b]) => a - b).map(([rows, count]) => [rows, count / total]);
}

/** Three digits, or all of them before the point. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return "-";
  return value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}
