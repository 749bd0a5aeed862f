import type { IncomingMessage } from "node:http";

/** Decides whether pages of an origin may call. */
export class Origins {
  readonly #allowed: ReadonlySet<string>;
  readonly #isLoopback: boolean;

  /** `allowed` may hold "*"; `host` is the address that the server listens on. */
  constructor(allowed: readonly string[], host: string) {
    this.#allowed = new Set(allowed);
    this.#isLoopback = isLoopback(host);
  }

  /**
   * Whether a request comes from an allowed page, from a page of this server, or from no page at all: only browsers send
   * `Origin`. A server on loopback takes only names of loopback as its own, so that a page whose name was pointed at
   * 127.0.0.1 (DNS rebinding) is a stranger.
   */
  allows({ headers }: Pick<IncomingMessage, "headers">): boolean {
    const { origin, host } = headers;
    if (origin === undefined || this.#allowed.has("*") || this.#allowed.has(origin)) return true;
    if (!URL.canParse(origin)) return false;
    const page = new URL(origin);
    return page.host === host && (!this.#isLoopback || isLoopback(page.hostname));
  }

  /** Those that are allowed beyond pages of this server. */
  get others(): readonly string[] {
    return [...this.#allowed];
  }
}

/** Whether an address can be reached from this machine only. */
export function isLoopback(host: string): boolean {
  return (
    host === "localhost" ||
    host.endsWith(".localhost") ||
    /^127(\.\d+){3}$/.test(host) ||
    /^\[?::1\]?$/.test(host)
  );
}
