import { WebSocket } from "ws";
import { SUBPROTOCOL } from "../server/protocol.ts";
import { type Client, type ConnectOptions, connectWith } from "./client.ts";
import type { Dial, Socket } from "./dial.ts";

/** As in `index.ts`, over the package `ws`: Node 20 has no WebSocket of its own, and a key can travel in a header. */
export function connect(url: string, options: ConnectOptions = {}): Promise<Client> {
  return connectWith(url, dialWs, options);
}

const dialWs: Dial = (url, key) => {
  const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
  return new WebSocket(url, SUBPROTOCOL, { headers, perMessageDeflate: false }) as unknown as Socket;
};

export { ClientError } from "./errors.ts";
