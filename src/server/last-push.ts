import { BinaryFrame } from "./frames.ts";
import type { ClientMessage } from "./messages.ts";

type Push = ClientMessage & { type: "push" };

/**
 * What the last binary push of a socket said before its values. A client that streams sends the same again and again, byte by byte,
 * and to parse and check it anew would take a third of the time that its frame takes.
 */
export class LastPush {
  #header: Buffer | undefined;
  #message: Push | undefined;

  /** The push in a frame whose length and JSON are those of the last one. */
  repeated(data: Buffer): { readonly message: Push; readonly binary: BinaryFrame } | undefined {
    const header = this.#header;
    if (!header || data.length < header.length) return undefined;
    if (data.compare(header, 0, header.length, 0, header.length) !== 0) return undefined;
    return { message: this.#message!, binary: new BinaryFrame(data.subarray(header.length)) };
  }

  /** `binary` is what follows in `data`, of which nothing was taken. */
  keep(data: Buffer, message: Push, binary: BinaryFrame): void {
    // A copy: a part of the frame would keep all of it.
    this.#header = Buffer.from(data.subarray(0, data.length - binary.left));
    this.#message = message;
  }
}
