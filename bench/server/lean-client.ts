import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";

/**
 * A WebSocket client that costs as little as one can: its frames are made once and sent again, and what comes is cut at frame
 * borders and no more. Where clients share the cores with the server, theirs is time that the server has not.
 */
export class LeanClient {
  hear: (payload: Buffer, isBinary: boolean) => void = () => {};
  readonly #socket: Socket;
  #rest: Buffer = EMPTY;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (data) => this.#cut(data));
  }

  static async open(port: number, path: string, subprotocol: string): Promise<LeanClient> {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const answer = new Promise<Buffer>((resolve, reject) => {
      socket.once("error", reject).once("data", resolve);
    });
    socket.write(
      [
        `GET ${path} HTTP/1.1`,
        `Host: 127.0.0.1:${port}`,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
        `Sec-WebSocket-Protocol: ${subprotocol}`,
        "Sec-WebSocket-Extensions: permessage-deflate",
        "\r\n",
      ].join("\r\n"),
    );
    const head = (await answer).toString("latin1");
    if (!head.startsWith("HTTP/1.1 101") || !head.endsWith("\r\n\r\n"))
      throw new Error(`the server did not take the upgrade: ${head.slice(0, 200)}`);
    return new LeanClient(socket);
  }

  send(frame: Buffer): void {
    this.#socket.write(frame);
  }

  terminate(): void {
    this.#socket.destroy();
  }

  #cut(data: Buffer): void {
    let rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    for (;;) {
      const short = rest.length < 2 ? 0 : rest[1]! & 127;
      const header = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (rest.length < header) break;
      const length =
        short === 127 ? Number(rest.readBigUInt64BE(2)) : short === 126 ? rest.readUInt16BE(2) : short;
      if (rest.length < header + length) break;
      const opcode = rest[0]! & 15;
      if (opcode === TEXT || opcode === BINARY)
        this.hear(rest.subarray(header, header + length), opcode === BINARY);
      rest = rest.subarray(header + length);
    }
    this.#rest = rest;
  }
}

/** A whole message as a client sends it: masked, in one frame. */
export function clientFrame(message: string | Buffer): Buffer {
  const isBinary = typeof message !== "string";
  const payload = Buffer.from(message);
  const header = Buffer.alloc(payload.length < 126 ? 2 : 4);
  header[0] = 128 | (isBinary ? BINARY : TEXT);
  if (payload.length < 126) header[1] = 128 | payload.length;
  else {
    header[1] = 128 | 126;
    header.writeUInt16BE(payload.length, 2);
  }
  const mask = randomBytes(4);
  for (let i = 0; i < payload.length; i++) payload[i] = payload[i]! ^ mask[i & 3]!;
  return Buffer.concat([header, mask, payload]);
}

const EMPTY = Buffer.alloc(0);
const TEXT = 1;
const BINARY = 2;
