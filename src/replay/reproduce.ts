import type { LifeSettings, SessionSettings } from "../core/recording.ts";
import { damaged } from "./fields.ts";
import { type RecordingListener, RecordingReader } from "./recording-reader.ts";
import { Reproduction } from "./reproduction.ts";
import type { LifeWork } from "./workload.ts";

/** What one server did, from its start to its end. */
export interface SessionWork extends SessionSettings {
  /** By engine, in the order in which they began; one that died and began again is there twice. */
  readonly lives: readonly LifeWork[];
}

export interface Reproduced {
  readonly sessions: readonly SessionWork[];
  /** Tasks, and batches of whole requests, that came out as they were recorded, until the first difference. */
  readonly tasks: number;
  readonly batches: number;
  /** Lines that were left out, because the server died while it wrote them. */
  readonly torn: number;
  /** Where decisions were first others than recorded, and how. */
  readonly difference?: { readonly line: number; readonly what: string };
}

/**
 * Makes all decisions of a recording again and compares them. Throws INVALID_REQUEST where the recording is damaged, with the
 * line, and UNSUPPORTED where it is of another version.
 */
export async function reproduce(text: AsyncIterable<string> | Iterable<string>): Promise<Reproduced> {
  const servers = new Servers();
  for await (const piece of text) {
    servers.reader.push(piece);
    if (servers.isDone) break;
  }
  return servers.end();
}

class Servers implements RecordingListener {
  readonly reader = new RecordingReader(this);
  #difference: Reproduced["difference"];
  readonly #sessions: { readonly settings: SessionSettings; readonly lives: Map<number, Reproduction> }[] =
    [];
  /** The time of day that is 0 for the lives of a session. */
  #originMs: number | undefined;

  get isDone(): boolean {
    return this.#difference !== undefined;
  }

  session(settings: SessionSettings): void {
    this.#sessions.push({ settings, lives: new Map() });
    this.#originMs = undefined;
  }

  life(life: number, settings: LifeSettings): void {
    const { lives } = this.#sessions.at(-1)!;
    if (lives.has(life)) throw damaged(`engine life ${life} has begun already`);
    this.#originMs ??= settings.epochMs;
    lives.set(life, new Reproduction(settings, this.#originMs));
  }

  line(life: number, letter: string, rest: string): void {
    const reproduction = this.#sessions.at(-1)!.lives.get(life);
    if (!reproduction) throw damaged(`engine life ${life} has not begun`);
    reproduction.line(letter, rest);
    const { difference } = reproduction;
    if (difference !== undefined) this.#difference = { line: this.reader.lines, what: difference };
  }

  end(): Reproduced {
    if (!this.isDone) this.reader.end();
    const all = this.#sessions.flatMap(({ lives }) => [...lives.values()]);
    return {
      sessions: this.#sessions.map(({ settings, lives }) => ({
        ...settings,
        lives: [...lives.values()].map(({ work }) => work),
      })),
      tasks: all.reduce((sum, { tasks }) => sum + tasks, 0),
      batches: all.reduce((sum, { batches }) => sum + batches, 0),
      torn: this.reader.torn,
      ...(this.#difference ? { difference: this.#difference } : {}),
    };
  }
}
