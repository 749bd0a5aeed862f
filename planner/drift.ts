import { type ArrivalProcess, statisticsOf } from "./arrival-process.ts";

export interface Drift {
  readonly direction: "more" | "fewer";
  /** Arrivals since the change is believed to have come. */
  readonly since: number;
}

/**
 * Tells when requests come at another rate than was planned for: CUSUM of Page (1954) on the times between arrivals, one sum
 * for a rate that is `FACTOR` times higher and one for as much lower. A burst that is part of the plan is no drift, so bursty
 * arrivals need more evidence.
 */
export class DriftTest {
  readonly #perMs: number;
  readonly #threshold: number;
  #more = 0;
  #fewer = 0;
  #sinceMore = 0;
  #sinceFewer = 0;

  constructor(planned: ArrivalProcess) {
    const { perSecond, scv, lag1 } = statisticsOf(planned);
    this.#perMs = perSecond / 1000;
    this.#threshold = EVIDENCE * Math.max(1, (scv * (1 + lag1)) / (1 - lag1)) ** 2;
  }

  /** Takes the time since the arrival before, in milliseconds; answers a drift once there is enough evidence of it. */
  arrived(gapMs: number): Drift | undefined {
    const planned = gapMs * this.#perMs;
    this.#more = Math.max(0, this.#more + Math.log(FACTOR) - (FACTOR - 1) * planned);
    this.#fewer = Math.max(0, this.#fewer - Math.log(FACTOR) + (1 - 1 / FACTOR) * planned);
    this.#sinceMore = this.#more === 0 ? 0 : this.#sinceMore + 1;
    this.#sinceFewer = this.#fewer === 0 ? 0 : this.#sinceFewer + 1;
    if (this.#more > this.#threshold) return { direction: "more", since: this.#sinceMore };
    if (this.#fewer > this.#threshold) return { direction: "fewer", since: this.#sinceFewer };
    return undefined;
  }
}

/** Half as many or twice as many requests ask for another plan; less is noticed too, but later. */
const FACTOR = 1.5;
/** Log likelihood ratio at which a change is believed: by chance once in some e^12 arrivals. */
const EVIDENCE = 12;
