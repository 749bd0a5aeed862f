import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { KernelTask } from "../../kernels/kernel.ts";
import { SimulatedKernel } from "../../kernels/simulated/simulated.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { policies } from "../../scheduler/policy.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { wallClock } from "../../src/core/clock.ts";
import type { Fault } from "../../src/core/faults.ts";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import { Engine } from "../../src/engine/engine.ts";
import { definitionOf, type Loaded, type NumberedSource } from "../../src/engine/load.ts";
import { loadModel } from "../../src/engine/model.ts";
import type { OpenLink } from "../../src/runtime/engines.ts";
import { inlineLink } from "../../src/runtime/link.ts";
import { EngineRuntime } from "../../src/runtime/runtime.ts";
import type { SessionHandle, Values } from "../../src/runtime/types.ts";
import { chainModel, listenerModel } from "../fixtures/models.ts";

/** Adds the version to every output, so that a step on another version shows. */
class VersionedKernel extends SimulatedKernel {
  readonly #version: number;

  constructor(cells: readonly CellSpec[], version: number) {
    super(cells, { maxBatch: 16 });
    this.#version = version;
  }

  override run(task: KernelTask): void {
    super.run(task);
    for (const values of this.outputs(task.cell)) {
      for (let at = 0; at < task.rows * task.steps; at++)
        values[at * 8] = values[at * 8]! + this.#version / 16;
    }
  }
}

/** Engines that compute nothing, and whose loads wait for as many turns as `turns` says. */
function openWith(turns: () => number): OpenLink {
  return async (models, events) => {
    const engine = new Engine({ models: [], policy: policies.cellular, clock: wallClock });
    const load = async ({ number, source }: NumberedSource): Promise<Loaded> => {
      const definition = await definitionOf(source);
      for (let turn = turns(); turn > 0; turn--) await new Promise(setImmediate);
      const kernel = new VersionedKernel(definition.cells, Number(definition.version));
      engine.add(number, await loadModel(definition, kernel, { maxBatch: 4 }));
      return { cells: [], bytes: 0 };
    };
    const loaded = new Map<number, Loaded>();
    for (const model of models) loaded.set(model.number, await load(model));
    return inlineLink(engine, { loaded, load }, events);
  };
}

const versioned = (model: ModelDefinition, version: number) => ({ ...model, version: `${version}` });
const version = fc.integer({ min: 1, max: 3 });
const name = fc.constantFrom("chain" as const, "listener" as const);
const named = fc.option(version, { freq: 3, nil: undefined });
const wait = fc.nat(6);
/** Whether those that run may go on to their end. */
const drain = fc.boolean();

const act = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("load" as const), name, version, drain, wait }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("unload" as const), name, named, drain, wait }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("request" as const),
      named,
      steps: fc.integer({ min: 1, max: 9 }),
      wait,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("session" as const),
      named,
      pushes: fc.array(wait, { maxLength: 6 }),
      wait,
    }),
  },
);

/** What a request or session heard, in order. */
interface Told {
  readonly version: number;
  readonly kind: "request" | "session";
  /** How many steps it asked for. */
  asked: number;
  readonly steps: number[];
  readonly outputs: Values[];
  readonly last: string[];
}

/** The checksums of the first steps of a row whose inputs are all zero, as the simulated kernel defines them. */
function checksums(steps: number): number[] {
  let sum = 0;
  return Array.from({ length: steps }, () => {
    sum = (31 + sum) & 0xfffff;
    sum = (sum * 31 + 1) & 0xfffff;
    return sum;
  });
}

const zeros = (steps: number) => float32([steps, 4], new Float32Array(steps * 4));
const firstOf = (outputs: Values) => (outputs.h as Tensor).data[0]!;

describe("models that come and go while requests run", () => {
  it("never lose or answer a request twice, and run each to its end on the version it began on", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(act, { minLength: 4, maxLength: 24 }),
        fc.array(fc.nat(4), { minLength: 1 }),
        async (acts, turns) => {
          let next = 0;
          const runtime = new EngineRuntime(
            openWith(() => turns[next++ % turns.length]!),
            {
              engines: 2,
              maxActive: 1000,
              memoryLimit: Number.POSITIVE_INFINITY,
              sourceOf: async (model) => ({ definition: model as ModelDefinition }),
              sourceWhileRunning: async (model) => ({ definition: model as ModelDefinition }),
            },
          );
          await runtime.start([versioned(chainModel(), 1), versioned(listenerModel(), 1)]);
          const all: Told[] = [];
          const changes: Promise<unknown>[] = [];
          const rests: Promise<unknown>[] = [];
          const pause = async (turns: number) => {
            for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
          };
          const listen = (told: Told) => ({
            output: ({ step, outputs }: { step: number; outputs: Values }) => {
              told.steps.push(step);
              told.outputs.push(outputs);
            },
            done: () => told.last.push("done"),
            failed: (fault: Fault) => told.last.push(fault.code),
            suspended: (_: string, evicted?: string) => told.last.push(evicted ?? "suspended"),
          });
          const begin = (
            kind: Told["kind"],
            wanted: number | undefined,
          ): { told: Told; options: { version?: string } } | undefined => {
            const model = kind === "request" ? "chain" : "listener";
            const found = runtime.models.find(
              (one) => one.name === model && (wanted === undefined || one.version === `${wanted}`),
            );
            if (!found) return undefined;
            const told: Told = {
              version: Number(found.version),
              kind,
              asked: 0,
              steps: [],
              outputs: [],
              last: [],
            };
            all.push(told);
            return { told, options: wanted === undefined ? {} : { version: `${wanted}` } };
          };
          for (const one of acts) {
            await pause(one.wait);
            if (one.kind === "load") {
              const model = one.name === "chain" ? chainModel() : listenerModel();
              changes.push(runtime.load(versioned(model, one.version), { drainMs: one.drain ? 10_000 : 1 }));
            } else if (one.kind === "unload") {
              const options = {
                drainMs: one.drain ? 10_000 : 0,
                ...(one.named ? { version: `${one.named}` } : {}),
              };
              changes.push(
                runtime
                  .unload(one.name, options)
                  .catch((fault: Fault) => expect(fault.code).toMatch(/MODEL_NOT_(FOUND|READY)/)),
              );
            } else if (one.kind === "request") {
              const begun = begin("request", one.named);
              if (!begun) continue;
              begun.told.asked = one.steps;
              runtime.submit("chain", { x: zeros(one.steps) }, begun.options, listen(begun.told));
            } else {
              const begun = begin("session", one.named);
              if (!begun) continue;
              begun.told.asked = one.pushes.length;
              const session: SessionHandle = runtime.open("listener", begun.options, listen(begun.told));
              rests.push(
                (async () => {
                  for (const turns of one.pushes) {
                    session.push({ x: zeros(1) });
                    await pause(turns);
                  }
                  session.end();
                })(),
              );
            }
          }
          await Promise.all(rests);
          await Promise.all(changes);
          await runtime.close();
          const isGentle = acts.every((one) => !("drain" in one) || one.drain);
          for (const { version, kind, asked, steps, outputs, last } of all) {
            expect(last, `${kind} on version ${version}`).toHaveLength(1);
            expect(isGentle ? ["done"] : ["done", "MODEL_NOT_READY", "replaced"]).toContain(last[0]);
            if (last[0] === "done") expect(steps).toHaveLength(asked);
            expect(steps).toEqual([...steps.keys()]);
            expect(outputs.map(firstOf)).toEqual(checksums(steps.length).map((sum) => sum + version / 16));
          }
          const { accepted, completed, failed, active } = runtime.stats();
          expect([accepted, active]).toEqual([completed + failed, 0]);
          expect(accepted).toBe(all.length);
        },
      ),
      { numRuns: 30 },
    );
  }, 120_000);
});
