import { byId } from "./dom.ts";

/** What is shown for one model; `stop` ends what it runs. */
export interface Panel {
  readonly content: HTMLElement;
  stop(): void;
}

/** Says to those who listen to the page instead of looking at it how something went. */
export function announce(text: string): void {
  byId("status").textContent = text;
}
