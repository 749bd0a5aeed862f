import { InputLog } from "./input-log.ts";

const CHECKPOINT_INPUTS = 128;
/** The log is too long, and the way back too, when it grows to this many times what lies between two checkpoints. */
const LOG_CHECKPOINTS = 16;

/** A state to go on from, and the position that it belongs to. */
export interface Checkpoint {
  readonly at: number;
  /** Undefined for that of a new session. */
  readonly state: string | undefined;
}

/** How a session goes on after it lost its connection: from a checkpoint, with the inputs since then. */
export class WayBack {
  readonly log: InputLog;
  /** Inputs between two checkpoints; 0 where none are made. */
  readonly every: number;
  #checkpoint: Checkpoint | undefined;
  #nextAt: number;

  private constructor(log: InputLog, checkpoint: Checkpoint | undefined, every: number) {
    this.log = log;
    this.every = every;
    this.#checkpoint = checkpoint;
    this.#nextAt = log.end + every;
  }

  /** That of a new session, which begins from `state` if there is one. */
  static from(state: string | undefined, every: number = CHECKPOINT_INPUTS): WayBack {
    return new WayBack(new InputLog(0), { at: 0, state }, every);
  }

  /** Absent where there is no way back. */
  get checkpoint(): Checkpoint | undefined {
    return this.#checkpoint;
  }

  get isTooLong(): boolean {
    return this.log.end - this.log.start >= Math.max(1, this.every) * LOG_CHECKPOINTS;
  }

  /** Goes on from `checkpoint`, should it be needed. */
  keep(checkpoint: Checkpoint): void {
    this.#checkpoint = checkpoint;
    this.log.dropBefore(checkpoint.at);
    this.#nextAt = checkpoint.at + this.every;
  }

  /** There is no way back from here on; the log keeps what may have to be sent. */
  close(): void {
    this.#checkpoint = undefined;
  }

  /** Whether a checkpoint is due at a position. */
  isDue(at: number): boolean {
    return this.every > 0 && at >= this.#nextAt;
  }

  /** One is being made at a position: the next is due after as many inputs again. */
  began(at: number): void {
    this.#nextAt = at + this.every;
  }

  copy(): WayBack {
    return new WayBack(this.log.copy(), this.#checkpoint, this.every);
  }
}
