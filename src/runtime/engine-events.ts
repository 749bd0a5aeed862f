import { Fault, faultCodes } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import { event } from "../engine/messages.ts";
import { readMeters } from "../engine/meters.ts";
import { PacketReader } from "../engine/packet.ts";
import type { EngineSlot, SlotEvents } from "./engines.ts";
import type { Entries, Entry } from "./entries.ts";
import type { MeterQuestions } from "./meter-questions.ts";
import { packState } from "./state.ts";
import { StepTexts } from "./step-texts.ts";
import { tellBuffers } from "./tell.ts";
import type { Value, Values, WatchedStep } from "./types.ts";
import { outputValue } from "./values.ts";
import type { Versions } from "./versions.ts";
import type { Watchers } from "./watchers.ts";

export interface Hearers {
  readonly entries: Entries;
  readonly versions: Versions;
  readonly watchers: Watchers;
  readonly meters: MeterQuestions;
}

/** Tells those whom it concerns what engines say, and what becomes of them. */
export class EngineEvents implements SlotEvents {
  readonly #to: Hearers;

  constructor(to: Hearers) {
    this.#to = to;
  }

  packet(packet: ArrayBuffer, slot: EngineSlot): void {
    const { entries, watchers, meters } = this.#to;
    const reader = new PacketReader(packet);
    while (!reader.isDone) {
      const kind = reader.int();
      const id = reader.int();
      if (kind === event.METERS) {
        meters.answer(id, readMeters(reader));
        continue;
      }
      const entry = entries.at(id);
      if (kind === event.OUTPUT) {
        const step = reader.int();
        const outputs = readStep(reader, entry, step);
        entry?.listener.output?.({ step, outputs });
        if (entry?.version.served.definition.program.kind === "session") entry.listener.consumed?.(1);
      } else if (kind === event.DONE) {
        const usage = { cells: reader.int(), queueMs: reader.double(), computeMs: reader.double() };
        const outputs = readOutputs(reader, entry);
        if (!entry) continue;
        const rest = entry.texts?.rest();
        if (rest) entry.listener.output?.(rest);
        entries.end(entry, () => entry.listener.done({ outputs, usage }), true, usage);
      } else if (kind === event.FAILED) {
        const fault = new Fault(faultCodes[reader.int()]!, reader.text());
        if (entry) entries.fail(entry, entry.isEvicted ? unloaded(entry) : fault);
      } else if (kind === event.MARKER) {
        const marker = reader.int();
        entry?.listener.marker?.(marker);
      } else if (kind === event.STEP) {
        watchers.step(this.#readWatched(reader, slot.index));
      } else {
        const values = reader.floats();
        if (entry) this.#suspended(entry, values);
      }
    }
  }

  up(slot: EngineSlot): void {
    const { versions, watchers } = this.#to;
    for (const version of versions) if (version.buffers) tellBuffers(slot, version, version.buffers);
    watchers.retell(slot);
  }

  died(slot: EngineSlot, reason: string): void {
    const { entries } = this.#to;
    const message = `engine ${slot.index} died and took the request with it: ${reason}`;
    for (const entry of entries)
      if (entry.engine === slot) entries.fail(entry, new Fault("INTERNAL", message));
  }

  #readWatched(reader: PacketReader, engine: number): WatchedStep {
    const { entries, versions } = this.#to;
    const definition = versions.numbered(reader.int())?.served.definition;
    const cell = definition?.cells[reader.int()]?.name ?? "";
    const [startMs, ms, rows, steps] = [reader.double(), reader.double(), reader.int(), reader.int()];
    const leftOut = { tasks: reader.int(), cells: reader.double() };
    const requests = Array.from({ length: reader.int() }, () => entries.at(reader.int())?.serial ?? 0);
    return { engine, model: definition?.name ?? "", cell, startMs, ms, rows, steps, requests, leftOut };
  }

  #suspended(entry: Entry, values: Float32Array): void {
    const { listener, version, isEvicted } = entry;
    const tell = () => {
      if (!listener.suspended) listener.failed(unloaded(entry));
      else
        listener.suspended(packState(version.served.definition, values), isEvicted ? "replaced" : undefined);
    };
    this.#to.entries.end(entry, tell, !isEvicted);
  }
}

function unloaded({ version: { served } }: Entry): Fault {
  const { name, version } = served.definition;
  return new Fault(
    "MODEL_NOT_READY",
    `version ${version} of model '${name}' was unloaded before the request was done`,
  );
}

/** The outputs of a whole request. */
function readOutputs(reader: PacketReader, entry: Entry | undefined): Values {
  return readValues(reader, (output, tensor) => entry && outputValue(entry.version.served, output, tensor));
}

function readStep(reader: PacketReader, entry: Entry | undefined, step: number): Values {
  if (!entry) return readValues(reader, () => undefined);
  entry.texts ??= new StepTexts(entry.version.served);
  const { texts } = entry;
  return readValues(reader, (output, tensor) => texts.value(step, output, tensor));
}

function readValues(
  reader: PacketReader,
  read: (output: number, tensor: Tensor) => readonly [string, Value] | undefined,
): Values {
  const outputs: Record<string, Value> = {};
  for (let count = reader.int(); count > 0; count--) {
    const named = read(reader.int(), reader.tensor());
    if (named) outputs[named[0]] = named[1];
  }
  return outputs;
}
