import type { IncomingMessage } from "node:http";
import { Fault, type FaultCode, faults } from "../core/faults.ts";
import type { Caller } from "./access/caller.ts";
import type { Keyring } from "./access/keyring.ts";
import type { Origins } from "./access/origins.ts";
import { KEY_SUBPROTOCOL, SUBPROTOCOL } from "./protocol.ts";

/** What decides who gets in. */
export interface Door {
  readonly keyring: Keyring;
  readonly origins: Origins;
  readonly isReady: () => boolean;
}

/** Who asks for a socket, or the HTTP answer that refuses it. */
export function knock(
  { keyring, origins, isReady }: Door,
  request: IncomingMessage,
  isFull: boolean,
): { readonly caller: Caller } | { readonly refusal: string } {
  const { headers, url } = request;
  if (url?.split("?")[0] !== "/v1/stream") return refusal("404 Not Found", "Not Found");
  if (!origins.allows(request)) return refusal("403 Forbidden", originRefusal(headers.origin));
  const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  if (!offered.includes(SUBPROTOCOL))
    return refusal("400 Bad Request", `the subprotocol '${SUBPROTOCOL}' was not offered`);
  try {
    const inProtocol = offered.find((name) => name.startsWith(KEY_SUBPROTOCOL));
    const caller =
      inProtocol === undefined
        ? keyring.callerOfHeader(headers.authorization)
        : keyring.callerOf(inProtocol.slice(KEY_SUBPROTOCOL.length));
    if (!isReady()) throw new Fault("SHUTTING_DOWN", "the server is shutting down");
    if (isFull) throw new Fault("OVERLOADED", "as many sockets are open as may be");
    return { caller };
  } catch (error) {
    const { code, message } = Fault.from(error);
    return refusal(statusOf(code), message, faults[code].retry);
  }
}

/** Why a page may not call. */
export function originRefusal(origin: string | undefined): string {
  return `pages of '${origin}' may not call this server: start it with --allow-origin ${origin}`;
}

function statusOf(code: FaultCode): string {
  if (code === "UNAUTHORIZED") return "401 Unauthorized\r\nWWW-Authenticate: Bearer";
  return "503 Service Unavailable";
}

function refusal(status: string, error: string, retry = false): { readonly refusal: string } {
  const body = JSON.stringify({ error });
  return {
    refusal: [
      `HTTP/1.1 ${status}`,
      "Connection: close",
      "Content-Type: application/json",
      ...(retry ? ["Retry-After: 1"] : []),
      `Content-Length: ${Buffer.byteLength(body)}`,
      "",
      body,
    ].join("\r\n"),
  };
}
