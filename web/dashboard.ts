import { showDecisions } from "./decisions.ts";
import { byId, readable } from "./dom.ts";
import { History } from "./history.ts";
import { Lanes } from "./lanes.ts";
import { LanesView } from "./lanes-view.ts";
import { Plots } from "./plots.ts";
import { KeyNeeded, type ServerPage } from "./server.ts";

const KEEP_MS = 15_000;
const RETRY_MS = 1000;
/** Decisions are rare. */
const DECISIONS_MS = 5000;
/** For so long after a step the lanes may still move. */
const MOVING_MS = 1000;

/** Lanes, plots, figures and decisions; listens to the engines while the page can be seen. */
export class Dashboard {
  readonly #server: ServerPage;
  readonly #history = new History();
  readonly #lanes = new Lanes(KEEP_MS);
  readonly #view = new LanesView(this.#lanes);
  readonly #plots = new Plots();
  #listening: AbortController | undefined;

  constructor(server: ServerPage) {
    this.#server = server;
    document.addEventListener("visibilitychange", () => this.listen());
  }

  /** In the colours of the page as they are now. */
  restyle(): void {
    this.#plots.restyle(this.#history);
    this.#view.draw();
  }

  /** Begins to listen while the page is visible, and stops while it is not. */
  listen(): void {
    this.#listening?.abort();
    this.#listening = undefined;
    if (document.visibilityState !== "visible") return;
    this.#listening = new AbortController();
    void this.#follow(this.#listening.signal);
    void this.#followDecisions(this.#listening.signal);
  }

  async #followDecisions(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        showDecisions(await this.#server.decisions(signal));
      } catch (error) {
        if (error instanceof KeyNeeded) return;
        // The feed says it where the server is gone.
      }
      await new Promise((resolve) => setTimeout(resolve, DECISIONS_MS));
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const note = byId("feed-note");
    while (!signal.aborted) {
      try {
        for await (const report of this.#server.watch(signal)) {
          note.hidden = true;
          this.#lanes.add(report);
          if (this.#history.add(report)) this.#showHistory();
          // The picture of idle engines stands still.
          const restMs = report.now_ms - (this.#lanes.steps.at(-1)?.start_ms ?? 0);
          if (restMs < MOVING_MS) this.#view.draw();
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof KeyNeeded) return;
      }
      note.hidden = false;
      note.textContent = "The feed of the engines is interrupted; trying again.";
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  #showHistory(): void {
    const { columns } = this.#history;
    const last = (values: readonly (number | null)[]) =>
      values.findLast((value) => value !== null) ?? Number.NaN;
    byId("tile-cells").textContent = readable(last(columns.cellsPerSecond));
    byId("tile-active").textContent = readable(last(columns.active));
    byId("tile-rows").textContent = readable(last(columns.meanRows));
    byId("tile-p99").textContent = readable(last(columns.p99));
    this.#plots.show(this.#history);
  }
}
