import type { LoadedModel } from "./model.ts";
import type { EngineRun } from "./request.ts";

/** Who has which slot of a model's kernel. */
export class Slots {
  readonly #grew: () => void;

  /** `grew` is called when a kernel was told to hold more. */
  constructor(grew: () => void) {
    this.#grew = grew;
  }

  take(model: LoadedModel): number {
    const slot = model.freeSlots.pop();
    if (slot !== undefined) return slot;
    const taken = model.slots++;
    if (taken >= model.reserved) {
      model.reserved = Math.max(model.kernel.maxBatch, model.reserved * 2);
      model.kernel.reserve(model.reserved);
      this.#grew();
    }
    return taken;
  }

  give(model: LoadedModel, slot: number): void {
    model.kernel.clear(slot);
    model.freeSlots.push(slot);
  }

  /** Takes a run's slot from it, unless it has none or shares it with all requests. */
  free(run: EngineRun): void {
    if (run.slot < 0 || run.isKnown) return;
    this.give(run.request.model, run.slot);
    run.slot = -1;
  }
}
