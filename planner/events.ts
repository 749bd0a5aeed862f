import { Heap } from "../scheduler/heap.ts";
import { ManualClock } from "../src/core/clock.ts";

/** Virtual time, in any unit: what is to happen, in order. What is due at the same time happens in the order in which it was put in. */
export class Events {
  readonly clock = new ManualClock();
  readonly #due = new Heap<Event>((a, b) => a.time < b.time || (a.time === b.time && a.number < b.number));
  #count = 0;

  /** Lets something happen at a time, which is not before now. */
  at(time: number, happens: () => void): void {
    this.#due.push({ time, number: this.#count++, happens });
  }

  /** Goes on until nothing more is to happen. */
  run(): void {
    for (let event = this.#due.pop(); event; event = this.#due.pop()) {
      this.clock.set(event.time);
      event.happens();
    }
  }
}

interface Event {
  readonly time: number;
  readonly number: number;
  readonly happens: () => void;
}
