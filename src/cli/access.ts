import { readFile } from "node:fs/promises";
import { Fault } from "../core/faults.ts";
import { type KeyEntry, parseKeys } from "../server/access/key-file.ts";
import { isLoopback } from "../server/access/origins.ts";
import type { Tls } from "../server/server.ts";

/** Who may call a server, as its command line says it. */
export interface AccessOptions {
  readonly keys?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly allowOrigin?: readonly string[];
  readonly openMetrics: boolean;
}

/** What the files of the options hold. Throws a `Fault` that names the file. */
export async function readAccess({
  keys,
  tlsCert,
  tlsKey,
}: AccessOptions): Promise<{ readonly keys?: readonly KeyEntry[]; readonly tls?: Tls }> {
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    const [given, missing] = tlsCert ? ["--tls-cert", "--tls-key"] : ["--tls-key", "--tls-cert"];
    throw new Fault("INVALID_REQUEST", `${given} was given without ${missing}: TLS needs both`);
  }
  return {
    ...(keys === undefined ? {} : { keys: parseKeys(await read(keys), keys) }),
    ...(tlsCert === undefined ? {} : { tls: { cert: await read(tlsCert), key: await read(tlsKey!) } }),
  };
}

/** What an operator should know of how open a server is; undefined where nothing. */
export function exposureWarning(host: string, { keys, tlsCert }: AccessOptions): string | undefined {
  if (isLoopback(host)) return undefined;
  if (keys === undefined) {
    return `Warning: ${host} can be reached from other machines and no key is needed: everybody there may use and stop what runs here. Give --keys, or --host 127.0.0.1.`;
  }
  if (tlsCert !== undefined) return undefined;
  return `Warning: ${host} can be reached from other machines without encryption: keys and data can be read on the way. Give --tls-cert and --tls-key, or put a proxy with TLS in front.`;
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new Fault("INVALID_REQUEST", `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
