import { type EngineOptions, event, readOptions } from "./messages.ts";
import type { LoadedModel } from "./model.ts";
import type { RunOutput } from "./outputs.ts";
import type { PacketReader, PacketWriter } from "./packet.ts";
import { grown } from "./quiet.ts";
import { Request } from "./request.ts";

/**
 * Requests that are rows of numbers from their admission to their answer, as most requests of most models can be. An object
 * is made of one only when somebody cancels or pauses it, or its time is over; with outputs that are streamed it is one from the
 * start. Each row has the number of the subgraph that ends the request.
 */
export class LightRequests {
  /** How many there are. */
  count = 0;
  #id = new Int32Array(INITIAL);
  #arrival = new Float64Array(INITIAL);
  #admittedMs = new Float64Array(INITIAL);
  /** Negative until its first task. */
  #startedMs = new Float64Array(INITIAL);
  readonly #options: EngineOptions[] = [];
  readonly #model: LoadedModel[] = [];
  /** By number of the request: its subgraph and 1, or 0. */
  #subgraphs = new Int32Array(INITIAL);

  add(last: number, { id, model, options, arrival, admittedMs }: NewRequest): void {
    this.#makeRoom(last, id);
    this.#id[last] = id;
    this.#arrival[last] = arrival;
    this.#admittedMs[last] = admittedMs;
    this.#startedMs[last] = NOT_STARTED;
    this.#options[last] = options;
    this.#model[last] = model;
    this.#subgraphs[id] = last + 1;
    this.count++;
  }

  remove(last: number): void {
    this.#subgraphs[this.#id[last]!] = 0;
    this.count--;
  }

  /** The last subgraph of a request, where it is one of these. */
  find(id: number): number | undefined {
    const found = this.#subgraphs[id] ?? 0;
    return found === 0 ? undefined : found - 1;
  }

  /** Numbers of all requests of a model. */
  of(model: LoadedModel): readonly number[] {
    const ids: number[] = [];
    this.#subgraphs.forEach((found, id) => {
      if (found > 0 && this.#model[found - 1] === model) ids.push(id);
    });
    return ids;
  }

  /** Whether the request is still the one that was the engine's `arrival`th. */
  isThere(id: number, arrival: number): boolean {
    const last = this.find(id);
    return last !== undefined && this.#arrival[last] === arrival;
  }

  timeoutOf(last: number): number {
    return this.#options[last]!.timeoutMs;
  }

  idOf(last: number): number {
    return this.#id[last]!;
  }

  modelOf(last: number): LoadedModel {
    return this.#model[last]!;
  }

  /** A task of the request begins. */
  start(last: number, nowMs: number): void {
    if (this.#startedMs[last] === NOT_STARTED) this.#startedMs[last] = nowMs;
  }

  /** Writes the answer: what cell number `cell` of the model, which ran last, has in row `row` of its outputs. */
  answer(last: number, outbox: PacketWriter, nowMs: number, cells: number, from: AnswerPlace): void {
    const outputs = this.#model[last]!.kernel.outputs(from.cell);
    const startedMs = this.#startedMs[last]!;
    outbox.int(event.DONE);
    outbox.int(this.#id[last]!);
    outbox.int(cells);
    outbox.double(startedMs - this.#admittedMs[last]!);
    outbox.double(nowMs - startedMs);
    outbox.int(from.outputs.length);
    for (let i = 0; i < from.outputs.length; i++) {
      const { output, cellOutput, shape, size } = from.outputs[i]!;
      outbox.int(output);
      outbox.tensor(shape, outputs[cellOutput]!, from.row * size, size);
    }
  }

  /** The object of a request, without its runs. */
  toObject(last: number): Request {
    const options = this.#options[last]!;
    const request = new Request(
      this.#id[last]!,
      this.#model[last]!,
      options,
      this.#arrival[last]!,
      this.#admittedMs[last]!,
    );
    request.startedMs = this.#startedMs[last]!;
    return request;
  }

  #makeRoom(last: number, id: number): void {
    while (last >= this.#id.length) {
      const length = this.#id.length * 2;
      this.#id = grown(this.#id, new Int32Array(length));
      this.#arrival = grown(this.#arrival, new Float64Array(length));
      this.#admittedMs = grown(this.#admittedMs, new Float64Array(length));
      this.#startedMs = grown(this.#startedMs, new Float64Array(length));
    }
    while (id >= this.#subgraphs.length)
      this.#subgraphs = grown(this.#subgraphs, new Int32Array(this.#subgraphs.length * 2));
  }
}

export interface NewRequest {
  readonly id: number;
  readonly model: LoadedModel;
  readonly options: EngineOptions;
  readonly arrival: number;
  readonly admittedMs: number;
}

export interface AnswerPlace {
  /** Index among the model's cells. */
  readonly cell: number;
  readonly outputs: readonly RunOutput[];
  row: number;
}

/** Options of a request that may be a row of numbers; undefined where it wants what only an object can give. */
export function readLightOptions(id: number, reader: PacketReader): EngineOptions | undefined {
  const options = readOptions(reader);
  return id < MOST_IDS && !options.stream ? options : undefined;
}

const INITIAL = 1024;
const NOT_STARTED = -1;
/** Runtimes use small numbers again; a request with a larger one is an object. */
const MOST_IDS = 2 ** 24;
