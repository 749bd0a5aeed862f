import { command } from "../engine/messages.ts";
import type { EngineMeters } from "../engine/meters.ts";
import type { EngineSlot } from "./engines.ts";

/** Asks engines what they have counted. */
export class MeterQuestions {
  /** Who waits, by the number of the question. */
  readonly #asked = new Map<number, (meters: EngineMeters) => void>();
  #asks = 0;

  /** By index of the engine; without those that do not answer in time. */
  async ask(engines: readonly EngineSlot[]): Promise<ReadonlyMap<number, EngineMeters>> {
    const meters = new Map<number, EngineMeters>();
    const ask = ({ index, writer }: EngineSlot) =>
      new Promise<void>((resolve) => {
        const id = this.#asks++ & 0x7fffffff;
        const end = () => {
          clearTimeout(timer);
          this.#asked.delete(id);
          resolve();
        };
        const timer = setTimeout(end, METERS_MS);
        this.#asked.set(id, (counted) => {
          meters.set(index, counted);
          end();
        });
        writer.int(command.METERS);
        writer.int(id);
      });
    await Promise.all(engines.filter(({ link }) => link).map(ask));
    return meters;
  }

  answer(id: number, meters: EngineMeters): void {
    this.#asked.get(id)?.(meters);
  }
}

/** Longest wait for an engine's meters: one that takes longer is in a long step, or dead. */
const METERS_MS = 1000;
