import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A wire between client and server that can be cut, or go silent, at any byte. */
export class Wire {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** Where new connections go; undefined refuses them. */
  target: number | undefined;
  /** Connections that were made so far. */
  made = 0;

  private constructor(target: number) {
    this.target = target;
    this.#server = createServer((near) => {
      near.on("error", () => {});
      if (this.target === undefined) {
        near.destroy();
        return;
      }
      this.made++;
      const far = connect(this.target, "127.0.0.1");
      const pair = [near, far] as const;
      this.#pairs.add(pair);
      far.on("error", () => near.destroy());
      far.on("close", () => near.destroy());
      near.on("close", () => {
        far.destroy();
        this.#pairs.delete(pair);
      });
      near.pipe(far);
      far.pipe(near);
    });
  }

  static async open(target: number): Promise<Wire> {
    const wire = new Wire(target);
    await new Promise<void>((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
    return wire;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Resets all connections. */
  cut(): void {
    for (const [near] of this.#pairs) near.resetAndDestroy();
  }

  /** Passes nothing on any more, in either direction; both ends stay up. */
  hush(): void {
    for (const [near, far] of this.#pairs) {
      near.unpipe();
      far.unpipe();
      near.resume();
      far.resume();
    }
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
