import { Heap } from "../../scheduler/heap.ts";
import type { GraphRequest } from "./graph-lane.ts";
import type { LightRequests } from "./light-requests.ts";
import type { Request } from "./request.ts";

/** When the time of each request is over. */
export class Deadlines {
  readonly #objects = new Heap<Request | GraphRequest>(endsBefore);
  readonly #light = new Heap<LightDeadline>(endsBefore);
  readonly #lightRequests: LightRequests;

  constructor(lightRequests: LightRequests) {
    this.#lightRequests = lightRequests;
  }

  add(request: Request | GraphRequest): void {
    if (request.deadlineMs !== Number.POSITIVE_INFINITY) this.#objects.push(request);
  }

  addLight(deadline: LightDeadline): void {
    if (deadline.deadlineMs !== Number.POSITIVE_INFINITY) this.#light.push(deadline);
  }

  /** The first, on the clock; `Infinity` where there is none. */
  get nextMs(): number {
    while (this.#objects.peek()?.ended) this.#objects.pop();
    for (let first = this.#light.peek(); first; first = this.#light.peek()) {
      if (this.#lightRequests.isThere(first.id, first.arrival)) break;
      this.#light.pop();
    }
    return Math.min(
      this.#objects.peek()?.deadlineMs ?? Number.POSITIVE_INFINITY,
      this.#light.peek()?.deadlineMs ?? Number.POSITIVE_INFINITY,
    );
  }

  /** The light request whose time is over, if there is one, once `nextMs` was asked. */
  lightUntil(nowMs: number): number | undefined {
    const first = this.#light.peek();
    return first && first.deadlineMs <= nowMs ? first.id : undefined;
  }

  /** Takes the first of those that are objects. */
  take(): Request | GraphRequest {
    return this.#objects.pop()!;
  }
}

/** When the time of a light request is over, unless it has ended or become an object. */
export interface LightDeadline {
  readonly id: number;
  /** Tells it from others of that number. */
  readonly arrival: number;
  readonly deadlineMs: number;
}

interface Ending {
  readonly deadlineMs: number;
  readonly arrival?: number;
}

/** By deadline; of those at one time the one that came first. */
function endsBefore(a: Ending, b: Ending): boolean {
  if (a.deadlineMs !== b.deadlineMs) return a.deadlineMs < b.deadlineMs;
  return (a.arrival ?? 0) < (b.arrival ?? 0);
}
