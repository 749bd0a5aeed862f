import { Fault } from "../core/faults.ts";
import { type LifeSettings, letterOf, RECORDING, type SessionSettings, TORN } from "../core/recording.ts";
import { damaged, integers } from "./fields.ts";
import { settings } from "./recorded-settings.ts";

/** Who takes in a recording. */
export interface RecordingListener {
  /** A server began; all lives before have ended. */
  session(settings: SessionSettings): void;
  /** An engine began. */
  life(life: number, settings: LifeSettings): void;
  /** A line of an engine: its letter, and what stands behind it. */
  line(life: number, letter: string, rest: string): void;
  /** Whether it wants no more. */
  readonly isDone: boolean;
}

/** Takes a recording apart, in pieces of any size. Throws INVALID_REQUEST with the number of the line that is wrong. */
export class RecordingReader {
  /** Whole lines that were read. */
  lines = 0;
  /** Ends of lines that servers could not write any more when they died; those lines are left out. */
  torn = 0;
  readonly #to: RecordingListener;
  #rest = "";
  #hasSession = false;
  /** The life whose lines come, and of each life of the session the pieces so far. */
  #life: number | undefined;
  readonly #pieces = new Map<number, number>();

  constructor(to: RecordingListener) {
    this.#to = to;
  }

  push(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (this.#to.isDone) return;
      this.lines++;
      this.#named(() => this.#take(line));
    }
  }

  end(): void {
    if (this.lines === 0) this.#heading(this.#rest);
    if (!this.#hasSession) throw damaged("the recording holds no server's session");
    if (this.#rest !== "") this.torn++;
    this.#rest = "";
  }

  /** Says which line a fault is of. */
  #named(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      throw new Fault(error.code, `line ${this.lines} of the recording: ${error.message}`, { cause: error });
    }
  }

  #heading(line: string): void {
    if (line === RECORDING) return;
    const [name, version] = line.split(" ");
    if (name === NAME && version)
      throw new Fault("UNSUPPORTED", `it is of version ${version}, this program reads version ${VERSION}`);
    throw damaged(`'${line.slice(0, 40)}' begins no recording: make one with 'cellbatch serve --record'`);
  }

  #take(line: string): void {
    if (this.lines === 1) this.#heading(line);
    else if (line.endsWith(TORN)) this.torn++;
    else if (line.startsWith("session ")) {
      this.#hasSession = true;
      this.#pieces.clear();
      this.#life = undefined;
      this.#to.session(settings.session(line.slice(8)));
    } else if (line.startsWith("@")) this.#begin(line);
    else if (!/^\d/.test(line)) this.#pass(line);
  }

  #begin(line: string): void {
    const [life, piece] = integers(line.slice(1));
    if (life === undefined || piece === undefined || !this.#hasSession)
      throw damaged(`'${line.slice(0, 40)}' begins no piece`);
    const expected = this.#pieces.get(life) ?? 0;
    if (piece !== expected)
      throw damaged(`piece ${expected} of engine life ${life} is missing, ${piece} is here`);
    this.#pieces.set(life, piece + 1);
    this.#life = life;
  }

  #pass(line: string): void {
    if (this.#life === undefined) throw damaged(`'${line.slice(0, 40)}' is of no engine`);
    const letter = line.slice(0, 1);
    const rest = line.slice(2);
    if (letter === letterOf.life) this.#to.life(this.#life, settings.life(rest));
    else this.#to.line(this.#life, letter, rest);
  }
}

const [NAME, VERSION] = RECORDING.split(" ");
