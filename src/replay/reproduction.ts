import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { Scheduler, type Task } from "../../scheduler/scheduler.ts";
import { type LifeSettings, letterOf, type RecordedType, type RunChange } from "../core/recording.ts";
import { cellType } from "./cell-type.ts";
import { CellWork } from "./cell-work.ts";
import { damaged, integers, numbers } from "./fields.ts";
import { GraphReproduction } from "./graph-reproduction.ts";
import { settings } from "./recorded-settings.ts";
import type { LifeWork } from "./workload.ts";

/**
 * Does again what one engine did: its scheduler and buffers are told what they were told, and every decision is compared with
 * the recorded one. Throws INVALID_REQUEST where a line makes no sense.
 */
export class Reproduction {
  readonly work: LifeWork;
  /** Tasks and batches of whole requests that came out as they were recorded. */
  tasks = 0;
  batches = 0;
  /** Says where decisions first were others; nothing is compared from there on. */
  difference: string | undefined;
  readonly #cells: CellWork;
  readonly #graphs: GraphReproduction;
  readonly #scheduler: Scheduler;
  readonly #startMs: number;
  /** Since the life began. */
  #timeUs = 0;
  /** By type: those that it has, with the rows of its last task. */
  readonly #types: ({ readonly name: string; readonly rows: Int32Array } | undefined)[] = [];
  #task: Task | undefined;
  /** The run that was found to be done by the line before. */
  #doneRun: number | undefined;

  constructor({ policy, startMs, epochMs }: LifeSettings, originMs: number) {
    if (!(policy in policies)) throw damaged(`there is no policy '${policy}'`);
    this.#scheduler = new Scheduler({ types: [], policy: policies[policy as PolicyName] });
    this.#startMs = startMs;
    const startUs = Math.round((epochMs - originMs) * 1000);
    this.work = { startUs, types: new Map(), requests: [], batches: [], buffers: [] };
    this.#cells = new CellWork(this.work);
    this.#graphs = new GraphReproduction(this.work, startMs);
  }

  line(letter: string, rest: string): void {
    if (letter === letterOf.time) {
      this.#timeUs = one(rest);
      return;
    }
    const doneRun = this.#doneRun;
    this.#doneRun = undefined;
    if (letter === letterOf.task) this.#begin(integers(rest, 4));
    else if (letter === letterOf.complete) this.#complete(one(rest));
    else if (letter === letterOf.idle) this.#idle();
    else if (letter === letterOf.add) this.#add(rest);
    else if (letter === letterOf.extend) this.#extend(integers(rest, 2));
    else if (letter === letterOf.finish) this.#change("finish", one(rest));
    else if (letter === letterOf.seal) this.#change("seal", one(rest));
    else if (letter === letterOf.pause) this.#change("pause", one(rest));
    else if (letter === letterOf.resume) this.#change("resume", one(rest));
    else if (letter === letterOf.remove) this.#change("remove", one(rest));
    else if (letter === letterOf.settle) this.#settle(one(rest), doneRun);
    else if (letter === letterOf.types) this.#addTypes(settings.types(rest));
    else if (letter === letterOf.typesGone) this.#removeTypes(integers(rest, 2));
    else if (letter === letterOf.buffers) this.#graphs.setBuffers(settings.buffers(rest), this.#timeUs);
    else if (letter === letterOf.waits) this.#graphs.wait(numbers(rest, 6));
    else if (letter === letterOf.leaves) this.#leave(integers(rest, 2));
    else if (letter === letterOf.batch) this.#batch(numbers(rest, 3));
    else if (letter === letterOf.batchDone) this.#graphs.ended(one(rest));
    else throw damaged(`'${letter}' is no kind of line that this version knows`);
  }

  #addTypes(types: readonly RecordedType[]): void {
    const first = this.#scheduler.addTypes(types.map(cellType));
    types.forEach(({ name, maxBatch }, i) => {
      this.#types[first + i] = { name, rows: new Int32Array(maxBatch).fill(-1) };
    });
    this.#cells.addTypes(first, types);
  }

  #removeTypes([first = 0, count = 0]: readonly number[]): void {
    for (let type = first; type < first + count; type++) this.#type(type);
    if (this.#cells.isUsed(first, count)) throw damaged("cell types are taken out that have runs");
    this.#types.fill(undefined, first, first + count);
    this.#scheduler.removeTypes(first, count);
  }

  #type(type: number): { readonly name: string; readonly rows: Int32Array } {
    const found = this.#types[type];
    if (!found) throw damaged(`there is no cell type ${type}`);
    return found;
  }

  #add(rest: string): void {
    const [type, steps, kind, priority, arrival, deadlineMs, ...after] = numbers(rest, 6) as Added;
    this.#type(type);
    for (const before of after) this.#cells.known(before);
    const options = { type, steps, open: (kind & 1) === 1, stepsAhead: (kind & 2) === 0 };
    const place = { priority, arrival, after };
    const id = this.#scheduler.add({ ...options, ...place, deadlineMs });
    const deadlineUs = Math.round((deadlineMs - this.#startMs) * 1000);
    this.#cells.add(id, { ...options, ...place, deadlineUs }, this.#timeUs);
  }

  #extend([run, steps]: readonly number[]): void {
    this.#cells.change("extend", this.#cells.known(run!), steps!, this.#timeUs);
    this.#scheduler.extend(run!, steps!);
  }

  #change(kind: Exclude<RunChange, "extend" | "settle">, run: number): void {
    this.#cells.change(kind, this.#cells.known(run), 0, this.#timeUs);
    const isDone = this.#scheduler[kind](run);
    if (!isDone) return;
    if (kind === "remove") this.#cells.gone(run, this.#timeUs);
    else this.#doneRun = run;
  }

  #settle(run: number, doneRun: number | undefined): void {
    if (run !== doneRun) throw damaged(`run ${run} is settled, and is not done`);
    this.#scheduler.settle(run);
    this.#cells.gone(run, this.#timeUs);
  }

  #idle(): void {
    const task = this.#scheduler.next(0);
    this.#cells.pause();
    if (task) this.#differ(`nothing ran, now ${this.#textOf(task)} would`);
  }

  #begin([timeUs, type, rows, steps, ...changed]: readonly number[]): void {
    if (this.#task) throw damaged("a task begins before the last one is complete");
    const recorded = this.#type(type!).rows;
    if (rows! > recorded.length) throw damaged(`${rows} rows are more than the type's ${recorded.length}`);
    for (let i = 0; i < changed.length; i += 2) {
      const [row, run] = [changed[i]!, changed[i + 1]];
      if (row >= rows! || run === undefined) throw damaged(`there is no row ${row} in a task of ${rows}`);
      recorded[row] = run;
    }
    const task = this.#scheduler.next(0);
    const expected = { type: type!, rows: rows!, steps: steps!, subgraphs: recorded };
    if (!task || !isSame(task, expected)) {
      const now = task ? this.#textOf(task) : "nothing";
      this.#differ(`at ${(timeUs! / 1000).toFixed(3)} ms ${this.#textOf(expected)} ran, now ${now} would`);
      return;
    }
    this.tasks++;
    this.#task = task;
    this.#timeUs = timeUs!;
    this.#cells.began(task, timeUs!);
  }

  #complete(timeUs: number): void {
    const task = this.#task;
    if (!task) throw damaged("a task is complete that did not begin");
    this.#task = undefined;
    this.#timeUs = timeUs;
    this.#cells.ended(timeUs);
    this.#scheduler.complete(task, (run) => this.#cells.gone(run, timeUs));
    this.#cells.free(this.#scheduler.ready);
  }

  #leave([graph, request]: readonly number[]): void {
    this.#graphs.leave(graph!, request!, this.#timeUs);
  }

  #batch(values: readonly number[]): void {
    this.#cells.pause();
    const difference = this.#graphs.batch(values);
    if (difference === undefined) this.batches++;
    else this.#differ(difference);
  }

  #differ(what: string): void {
    this.difference ??= what;
  }

  #textOf({ type, rows, steps, subgraphs }: Omit<Task, "worker">): string {
    const shown = [...subgraphs.subarray(0, Math.min(rows, SHOWN_ROWS))].map((run) =>
      this.#cells.nameOf(run),
    );
    const more = rows > SHOWN_ROWS ? ", ..." : "";
    const { name } = this.#type(type);
    return `${name} with ${rows} rows of requests ${shown.join(", ")}${more} and ${steps} steps`;
  }
}

type Added = [
  type: number,
  steps: number,
  kind: number,
  priority: number,
  arrival: number,
  deadlineMs: number,
  ...after: number[],
];

const SHOWN_ROWS = 16;

function isSame(a: Task, b: Omit<Task, "worker">): boolean {
  if (a.type !== b.type || a.rows !== b.rows || a.steps !== b.steps) return false;
  for (let row = 0; row < a.rows; row++) if (a.subgraphs[row] !== b.subgraphs[row]) return false;
  return true;
}

function one(rest: string): number {
  return integers(rest, 1)[0]!;
}
