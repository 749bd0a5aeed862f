import type { Kernel } from "../../kernels/kernel.ts";
import { type ChainCommand, reason, type TreeCommand } from "../../kernels/native/commands.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { advance, sample, uniformOf } from "../../src/engine/sampling.ts";

export type Command =
  | { readonly op: "admit"; readonly slot: number; readonly chain: ChainCommand }
  | { readonly op: "tree"; readonly slot: number; readonly tree: TreeCommand }
  | { readonly op: "cancel"; readonly slot: number }
  | { readonly op: "limit"; readonly slot: number; readonly steps: number };

/** How one request ended, and with what. */
export interface Ending {
  readonly entry: readonly number[];
  readonly tokens: readonly number[];
  /** Of the last step; undefined where it was cancelled, logits also where it was ended between steps. */
  readonly state?: Float32Array;
  readonly logits?: Float32Array;
}

interface Request {
  readonly slot: number;
  readonly chain?: ChainCommand;
  readonly tree?: TreeCommand;
  /** By part of a tree, where its state is; one place for a chain. */
  readonly places: readonly number[];
  readonly followers: Request[];
  readonly tokens: number[];
  done: number;
  limit: number;
  random: number;
  begin: number;
  missing: number[];
  /** Of a tree: slots that it has. */
  held: number;
  end?: "cancelled" | Float32Array;
  logits?: Float32Array;
}

type Work = readonly [request: Request, part: number];

/** What a device engine must do, step by step, with each row alone on the kernel. */
export class EngineOracle {
  readonly endings: Ending[] = [];
  steps = 0;
  rowsRun = 0;
  readonly #kernel: Kernel;
  readonly #cells: readonly CellSpec[];
  readonly #rows: number;
  #treeSlots: number;
  #place = 0;
  readonly #ready: Work[][];
  readonly #running: Work[][];
  #trees: Request[] = [];
  readonly #bySlot = new Map<number, Request>();

  constructor(kernel: Kernel, rows: number, treeSlots: number) {
    this.#kernel = kernel;
    this.#cells = kernel.cells;
    this.#rows = rows;
    this.#treeSlots = treeSlots;
    this.#ready = kernel.cells.map(() => []);
    this.#running = kernel.cells.map(() => []);
  }

  get open(): number {
    return [...this.#bySlot.values()].filter(({ end }) => end === undefined).length;
  }

  isFree(slot: number): boolean {
    const request = this.#bySlot.get(slot);
    return !request || request.end !== undefined;
  }

  apply(command: Command): void {
    const { slot } = command;
    const old = this.#bySlot.get(slot);
    if (command.op === "cancel" && old && !old.end) this.#cancel(old);
    if (command.op === "limit" && old?.chain && !old.end) {
      old.limit = Math.min(total(old.chain), command.steps);
      if (old.done < old.limit) return;
      delete old.logits;
      this.#finish(old, reason.limit);
    }
    if (command.op === "admit") this.#admit(slot, command.chain);
    if (command.op === "tree") {
      const parts = 2 * command.tree.leaves - 1;
      const request = this.#add({ slot, tree: command.tree }, parts);
      request.missing = Array.from({ length: parts }, (_, part) => (part < command.tree.leaves ? 0 : 2));
      this.#trees.push(request);
      this.#beginTrees();
    }
  }

  step(): void {
    this.#ready.forEach((ready, cell) => {
      const rows = this.#running[cell]!.filter(([request]) => !request.end);
      this.#running[cell] = rows;
      while (rows.length < this.#rows && ready.length > 0) {
        const [request, part] = ready.shift()!;
        if (request.end) continue;
        if (request.begin < 0) request.begin = this.steps;
        rows.push([request, part]);
      }
    });
    const ran = this.#running.map((rows) => [...rows]);
    ran.forEach((rows, cell) => {
      for (const [request, part] of rows) this.#run(cell, request, part);
      this.rowsRun += rows.length;
    });
    this.steps++;
    for (const rows of ran) for (const [request, part] of rows) this.#ran(request, part);
    this.#running.forEach((rows, cell) => {
      this.#running[cell] = rows.filter(([request]) => request.chain && !request.end);
    });
  }

  #admit(slot: number, chain: ChainCommand): void {
    const before = chain.follows === undefined ? undefined : this.#bySlot.get(chain.follows);
    const request = this.#add({ slot, chain }, 1);
    request.limit = total(chain);
    request.random = chain.generate?.seed ?? 0;
    const [place] = request.places;
    if (chain.state) this.#kernel.write(place!, chain.state);
    if (before && !before.end) before.followers.push(request);
    else if (before?.end === "cancelled") this.#cancel(request);
    else this.#start(request, before?.end as Float32Array | undefined);
  }

  #start(request: Request, state: Float32Array | undefined): void {
    if (state) this.#kernel.write(request.places[0]!, state);
    this.#ready[request.chain!.cell]!.push([request, 0]);
  }

  #beginTrees(): void {
    for (; this.#trees.length > 0; this.#trees.shift()) {
      const request = this.#trees[0]!;
      if (request.end) continue;
      const { leaves, leafCell } = request.tree!;
      const needed = leaves > 1 ? leaves : 0;
      if (needed > this.#treeSlots) return;
      this.#treeSlots -= needed;
      request.held = needed;
      for (let leaf = 0; leaf < leaves; leaf++) this.#ready[leafCell]!.push([request, leaf]);
    }
  }

  #run(cell: number, request: Request, part: number): void {
    const { chain, tree, places, done, tokens } = request;
    const [staged] = this.#kernel.stage(cell, 1, 1);
    const { inputs } = chain ?? tree!;
    const given = chain?.steps ?? tree!.leaves;
    const at = chain ? done : part;
    if (staged && at < given) {
      const size = inputs.length / given;
      staged.set(inputs.subarray(at * size, (at + 1) * size));
    } else if (staged) staged[0] = tokens.at(-1)!;
    const isNode = tree && part >= given && part < places.length;
    const node = 2 * (part - given);
    const reads = isNode ? [...tree.children.subarray(node, node + 2)] : [Math.min(part, places.length - 1)];
    this.#kernel.run({
      ...{ cell, rows: 1, steps: 1 },
      reads: Int32Array.from(reads, (one) => places[one]!),
      writes: Int32Array.of(places[part] ?? 0),
    });
    const output = (name: string) => {
      const index = this.#cells[cell]!.outputs.findIndex((one) => one.name === name);
      if (index < 0) return undefined;
      return this.#kernel.outputs(cell)[index]!.slice(0, this.#cells[cell]!.outputs[index]!.shape[0] ?? 1);
    };
    const logits = output("logits");
    if (logits) request.logits = logits as Float32Array;
    if (!chain?.generate || done + 1 < given) return;
    const { sampling } = chain.generate;
    let token = output("token")![0]!;
    if (sampling) {
      request.random = advance(request.random);
      token = sample(logits!, 0, logits!.length, sampling, uniformOf(request.random));
    }
    tokens.push(token);
  }

  #ran(request: Request, part: number): void {
    const { chain, tree, tokens } = request;
    request.done++;
    if (chain) {
      if (chain.generate && tokens.length > 0 && tokens.at(-1) === chain.generate.stop) {
        tokens.pop();
        this.#finish(request, reason.stop);
      } else if (request.done === request.limit) {
        this.#finish(request, request.limit === total(chain) ? reason.complete : reason.limit);
      }
      return;
    }
    const { leaves, headCell, nodeCell, children } = tree!;
    const root = 2 * leaves - 2;
    if (part > root || (part === root && headCell === undefined)) this.#finish(request, reason.complete);
    else if (part === root) this.#ready[headCell!]!.push([request, part + 1]);
    else {
      const parent = leaves + (children.indexOf(part) >> 1);
      request.missing[parent]!--;
      if (request.missing[parent] === 0) this.#ready[nodeCell]!.push([request, parent]);
    }
    if (part >= leaves && part <= root) this.#giveBack(request, part === root ? 2 : 1);
  }

  #giveBack(request: Request, treeSlots: number): void {
    request.held -= treeSlots;
    this.#treeSlots += treeSlots;
    this.#beginTrees();
  }

  #cancel(request: Request): void {
    delete request.logits;
    this.#finish(request, reason.cancelled);
    this.#giveBack(request, request.held);
  }

  #finish(request: Request, why: number): void {
    const { slot, tokens, begin, logits } = request;
    const state = why === reason.cancelled ? undefined : this.#stateOf(request);
    request.end = state ?? "cancelled";
    const entry = [slot, why, tokens.length, begin, this.steps];
    this.endings.push({ entry, tokens, ...(state && { state }), ...(logits && { logits }) });
    for (const follower of request.followers) {
      if (follower.end) continue;
      if (state) this.#start(follower, state);
      else this.#cancel(follower);
    }
  }

  #stateOf({ places, chain }: Request): Float32Array {
    const state = this.#kernel.read(places.at(-1)!);
    if (chain && this.#cells[chain.cell]!.states.length === 1) state.fill(0, state.length / 2);
    return state;
  }

  #add(request: Pick<Request, "slot" | "chain" | "tree">, parts: number): Request {
    const places = Array.from({ length: parts }, () => this.#place++);
    this.#kernel.reserve(this.#place);
    for (const place of places) this.#kernel.clear(place);
    const added: Request = {
      ...{ ...request, places, followers: [], tokens: [], missing: [] },
      ...{ done: 0, limit: 0, random: 0, begin: -1, held: 0 },
    };
    this.#bySlot.set(request.slot, added);
    return added;
  }
}

function total({ steps, generate }: ChainCommand): number {
  return generate ? steps + generate.most - 1 : steps;
}
