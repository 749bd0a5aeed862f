import type { Scheduler } from "../../scheduler/scheduler.ts";
import { areBelow } from "./chains.ts";
import { type LightRequests, readLightOptions } from "./light-requests.ts";
import type { LoadedModel } from "./model.ts";
import type { PacketReader, PacketWriter } from "./packet.ts";
import { grown, type QuietRuns, TREE } from "./quiet.ts";
import { EngineRun, type Request } from "./request.ts";
import type { TreePlan } from "./tree-plan.ts";

/** The nodes of light requests that are trees, a run of one step each, by subgraph. */
export class Trees {
  readonly #requests: LightRequests;
  readonly #quiet: QuietRuns;
  /** The slot of a child's state; before it is there, `~` of the child's subgraph. */
  left = new Int32Array(INITIAL);
  right = new Int32Array(INITIAL);
  /** Twice the parent's subgraph, and 1 for its right child; -1 for the last of a request. */
  #parent = new Int32Array(INITIAL);
  /** Its place among the nodes of its tree, which numbers that were used before do not tell. */
  #place = new Int32Array(INITIAL);
  /** The last subgraph of the request. */
  #last = new Int32Array(INITIAL);
  /** Of the last subgraph: subgraphs of the request, and where the kernel's outputs have the answer. */
  #count = new Int32Array(INITIAL);
  #row = new Int32Array(INITIAL);
  /** By part of the tree that is read, leaves first: its slot or `~` of its subgraph, and whether it has a parent. */
  #parts = new Int32Array(INITIAL);
  #hasParent = new Uint8Array(INITIAL);

  constructor(requests: LightRequests, quiet: QuietRuns) {
    this.#requests = requests;
    this.#quiet = quiet;
  }

  /** As `Chains.admit`. */
  admit(
    id: number,
    model: LoadedModel,
    plan: TreePlan,
    reader: PacketReader,
    scheduler: Scheduler,
    arrival: number,
    nowMs: number,
  ): boolean {
    const options = readLightOptions(id, reader);
    if (!options || reader.int() !== 2) return false;
    const first = this.#findInput(reader, 0, plan);
    const second = this.#findInput(reader, 1, plan);
    if (first < 0 || second < 0) return false;
    const { words } = reader;
    const [tokens, children] = plan.token === 0 ? [first, second] : [second, first];
    const [leaves, nodes] = [words[tokens - 1]!, words[children - 1]! >> 1];
    if (nodes === 0 || !this.#isTree(words, children, leaves, nodes)) return false;
    if (!areBelow(plan.symbols, words, tokens, leaves)) return false;
    const { priority, timeoutMs } = options;
    if (this.#leastMs(model, plan, words, children, leaves, nodes) > timeoutMs) return false;
    const deadlineMs = nowMs + timeoutMs;
    const parts = this.#parts;
    for (let leaf = 0; leaf < leaves; leaf++) parts[leaf] = plan.firstKnown + words[tokens + leaf]!;
    for (let node = 0; node < nodes; node++) {
      const left = parts[words[children + 2 * node]!]!;
      const right = parts[words[children + 2 * node + 1]!]!;
      const type = model.firstType + plan.node;
      const [before, other] = [beforeOf(left), beforeOf(right)];
      const subgraph = scheduler.addRun(type, 1, priority, arrival, deadlineMs, before, other);
      this.#add(subgraph, node, left, right);
      parts[leaves + node] = ~subgraph;
    }
    let last = ~parts[leaves + nodes - 1]!;
    if (plan.head !== undefined) {
      const root = last;
      last = scheduler.addRun(model.firstType + plan.head, 1, priority, arrival, deadlineMs, root);
      this.#add(last, nodes, ~root, NO_CHILD);
      this.#last[last] = last;
    }
    for (let node = 0; node < nodes; node++) this.#last[~parts[leaves + node]!] = last;
    this.#count[last] = plan.head === undefined ? nodes : nodes + 1;
    this.#requests.add(last, { id, model, options, arrival, admittedMs: nowMs });
    return true;
  }

  lastOf(subgraph: number): number {
    return this.#last[subgraph]!;
  }

  /** A node's task begins. Answers the slot it may write without taking one: that of a child that is nobody else's; or -1. */
  begin(subgraph: number, zeroSlot: number, nowMs: number): number {
    this.#requests.start(this.#last[subgraph]!, nowMs);
    const [left, right] = [this.left[subgraph]!, this.right[subgraph]!];
    return left > zeroSlot ? left : right > zeroSlot ? right : -1;
  }

  /** A node has run, in this row of its task. */
  end(subgraph: number, row: number): void {
    if (this.#parent[subgraph] === NO_PARENT) this.#row[subgraph] = row;
  }

  /** Hands a node's state on; answers whether it was the last of its request. */
  finish(subgraph: number): boolean {
    this.#quiet.remove(subgraph, 0);
    const parent = this.#parent[subgraph]!;
    if (parent === NO_PARENT) return true;
    const slot = this.#quiet.slot[subgraph]!;
    if (parent & 1) this.right[parent >> 1] = slot;
    else this.left[parent >> 1] = slot;
    return false;
  }

  answer(last: number, plan: TreePlan, outbox: PacketWriter, nowMs: number): void {
    const place = { cell: plan.head ?? plan.node, outputs: plan.outputs, row: this.#row[last]! };
    this.#requests.answer(last, outbox, nowMs, this.#count[last]!, place);
    this.#requests.remove(last);
  }

  /** Makes an object of a request with a run for each node that has not run, and one for all that have. */
  toObject(last: number, plan: TreePlan): Request {
    const request = this.#requests.toObject(last);
    const { zeroSlot } = request.model;
    const runs: EngineRun[] = [];
    const stateIn = (slot: number): EngineRun => {
      const run = new EngineRun(request, plan.node, [], []);
      Object.assign(run, { slot, isDone: true, isKnown: slot <= zeroSlot });
      return run;
    };
    const runOf = (subgraph: number): EngineRun => {
      const cell = subgraph === last && plan.head !== undefined ? plan.head : plan.node;
      const children =
        cell === plan.node ? [this.left[subgraph]!, this.right[subgraph]!] : [this.left[subgraph]!];
      const from = children.map((child) => (child < 0 ? runOf(~child) : stateIn(child)));
      const run = new EngineRun(request, cell, [], from);
      const slot = this.#quiet.slot[subgraph]!;
      // Its task is running and writes where a child's state was.
      for (const child of from) if (slot >= 0 && child.slot === slot) child.slot = -1;
      Object.assign(run, { subgraph, slot, steps: 1, isQuiet: true });
      if (subgraph === last) run.outputs = plan.outputs;
      this.#quiet.remove(subgraph, 0);
      runs.push(run);
      return run;
    };
    runOf(last);
    runs.sort((a, b) => this.#place[a.subgraph]! - this.#place[b.subgraph]!);
    const past = stateIn(-1);
    past.done = this.#count[last]! - runs.length;
    request.open = runs.length;
    request.runs = [past, ...runs, ...runs.flatMap(({ from }) => from.filter(({ isDone }) => isDone))];
    this.#requests.remove(last);
    return request;
  }

  #add(subgraph: number, place: number, left: number, right: number): void {
    if (subgraph >= this.left.length) this.#grow(subgraph);
    this.#quiet.add(subgraph, TREE, NO_SLOT, 0, 1);
    this.#place[subgraph] = place;
    this.left[subgraph] = left;
    this.right[subgraph] = right;
    this.#parent[subgraph] = NO_PARENT;
    if (left < 0) this.#parent[~left] = 2 * subgraph;
    if (right < 0) this.#parent[~right] = 2 * subgraph + 1;
  }

  /** Goes past an input; answers where its values begin, or -1 where it is not as the plan says. */
  #findInput(reader: PacketReader, input: number, plan: TreePlan): number {
    if (reader.int() !== input || reader.int() !== 1) return -1;
    const isChildren = input === plan.children;
    if (reader.int() !== (isChildren ? 2 : 1)) return -1;
    const length = reader.int();
    if (isChildren && reader.int() !== 2) return -1;
    const values = reader.int();
    if (values !== (isChildren ? 2 * length : length)) return -1;
    const at = reader.position;
    reader.position += values;
    return at;
  }

  /** Whether every part but the last is a child of exactly one later node. */
  #isTree(words: Int32Array, at: number, leaves: number, nodes: number): boolean {
    const parts = leaves + nodes;
    if (parts > this.#parts.length) {
      this.#parts = new Int32Array(2 * parts);
      this.#hasParent = new Uint8Array(2 * parts);
    }
    this.#hasParent.fill(0, 0, parts);
    for (let i = 0; i < 2 * nodes; i++) {
      const child = words[at + i]!;
      if (child < 0 || child >= leaves + (i >> 1) || this.#hasParent[child] === 1) return false;
      this.#hasParent[child] = 1;
    }
    return 2 * nodes === parts - 1;
  }

  /** What the longest path takes at least. */
  #leastMs(
    model: LoadedModel,
    { node, head }: TreePlan,
    words: Int32Array,
    at: number,
    leaves: number,
    nodes: number,
  ): number {
    const heights = this.#parts;
    heights.fill(0, 0, leaves);
    for (let i = 0; i < nodes; i++)
      heights[leaves + i] = 1 + Math.max(heights[words[at + 2 * i]!]!, heights[words[at + 2 * i + 1]!]!);
    const top = head === undefined ? 0 : model.profiles[head]!.stepMs;
    return heights[leaves + nodes - 1]! * model.profiles[node]!.stepMs + top;
  }

  #grow(subgraph: number): void {
    const length = 2 * subgraph;
    this.left = grown(this.left, new Int32Array(length));
    this.right = grown(this.right, new Int32Array(length));
    this.#parent = grown(this.#parent, new Int32Array(length));
    this.#place = grown(this.#place, new Int32Array(length));
    this.#last = grown(this.#last, new Int32Array(length));
    this.#count = grown(this.#count, new Int32Array(length));
    this.#row = grown(this.#row, new Int32Array(length));
  }
}

const INITIAL = 1024;
const NO_SLOT = -1;
const NO_PARENT = -1;
/** Any slot that is no request's own. */
const NO_CHILD = 0;

/** The subgraph before, of a part that is a node; -1 for a leaf. */
function beforeOf(part: number): number {
  return part < 0 ? ~part : -1;
}
