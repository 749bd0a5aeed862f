import type { ClientError } from "./errors.ts";
import { type StepOutput, StepQueue } from "./steps.ts";
import type { Values } from "./values.ts";

/** Outputs that may wait for their reader before pushes do. */
const MOST_UNREAD = 1024;

/** The outputs of a session between its connections and its reader, who gets each once, however often it comes. */
export class SessionOutputs {
  /** Position of the first input here; those before were the session's that this was forked from. */
  readonly first: number;
  readonly #queue = new StepQueue();
  /** Outputs before this position were given to the reader. */
  #delivered: number;

  constructor(first: number) {
    this.first = first;
    this.#delivered = first;
  }

  /** Whether the reader is so far behind that no more input should be sent. */
  get isFull(): boolean {
    return this.#queue.size >= MOST_UNREAD;
  }

  /** Whether that of the input at a position did not come before. */
  isNews(position: number): boolean {
    return position >= this.#delivered;
  }

  push(position: number, outputs: Values): void {
    this.#delivered = position + 1;
    this.#queue.push({ step: position - this.first, outputs });
  }

  /** None follows; the error, if any, is thrown after those that are there. */
  end(error: ClientError | undefined): void {
    this.#queue.end(error);
  }

  /** The next; undefined after the last. */
  next(): Promise<StepOutput | undefined> {
    return this.#queue.next();
  }
}
