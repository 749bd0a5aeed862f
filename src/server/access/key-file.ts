import { createHash, randomBytes } from "node:crypto";
import { z } from "zod";
import { Fault } from "../../core/faults.ts";

const Limits = z.strictObject({
  /** Requests, sessions and requests of sequences that the key may begin each second; no limit where it is left out. */
  requestsPerSecond: z.number().positive().max(1e6).optional(),
  /** How many of them may come at once. @default one second's */
  burst: z.number().int().min(1).max(1e6).optional(),
  /** Requests and sessions that may be open at once, over all doors. @default no limit of its own */
  openIds: z.number().int().min(1).optional(),
  /** Models that the key may use; the others are not there for it. @default all */
  models: z.array(z.string().min(1)).min(1).optional(),
  /** Highest class it may ask for, 1 (first) to 9 (last). @default 1 */
  priority: z.number().int().min(1).max(9).optional(),
  /** Whether it may load and unload models. @default false */
  admin: z.boolean().optional(),
});

const Entry = Limits.extend({
  /** What people call it; logs may show it. */
  name: z.string().regex(/^[\w.-]{1,64}$/, "expected 1 to 64 letters, digits, dots, dashes or underscores"),
  /** The part of the key that is no secret. */
  id: z.string().regex(/^[0-9a-f]{16}$/),
  /** SHA-256 of the whole key, in hexadecimal. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  /** ISO 8601. */
  created: z.string(),
});

const File = z.strictObject({ version: z.literal(1), keys: z.array(Entry) });

export type KeyLimits = z.infer<typeof Limits>;
export type KeyEntry = z.infer<typeof Entry>;

/** What a file of keys holds. Throws INVALID_REQUEST that names the file and the field. */
export function parseKeys(text: string, file: string): readonly KeyEntry[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new Fault("INVALID_REQUEST", `${file} is no file of keys: ${(cause as Error).message}`, { cause });
  }
  const parsed = File.safeParse(json);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw new Fault("INVALID_REQUEST", `${file} is no file of keys: '${path.join(".")}': ${message}`);
  }
  const { keys } = parsed.data;
  for (const field of ["name", "id"] as const) {
    const twice = keys.find((key, i) => keys.findIndex((one) => one[field] === key[field]) < i);
    if (twice) throw new Fault("INVALID_REQUEST", `${file} has two keys of ${field} '${twice[field]}'`);
  }
  return keys;
}

/** The inverse of `parseKeys`. */
export function formatKeys(keys: readonly KeyEntry[]): string {
  return `${JSON.stringify({ version: 1, keys }, null, 2)}\n`;
}

/** A new key, and what is kept of it. The key itself cannot be had again. */
export function makeKey(
  name: string,
  limits: KeyLimits,
  created: string,
): { readonly key: string; readonly entry: KeyEntry } {
  const id = randomBytes(8).toString("hex");
  const key = `cb_${id}_${randomBytes(32).toString("base64url")}`;
  const parsed = Entry.safeParse({ name, id, hash: hashOf(key).toString("hex"), created, ...limits });
  if (parsed.success) return { key, entry: parsed.data };
  const { path, message } = parsed.error.issues[0]!;
  throw new Fault("INVALID_REQUEST", `the key's '${path.join(".")}' is not allowed: ${message}`);
}

/**
 * A key holds 256 random bits, so no dictionary leads from its hash to it: a plain SHA-256 keeps it as safe as a slow hash would,
 * which would cost the thread that serves sockets some 50 ms for every request that brings a key, good or bad.
 */
export function hashOf(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

/** The id of a key, or undefined where it does not look like one. */
export function idOfKey(key: string): string | undefined {
  return /^cb_([0-9a-f]{16})_[\w-]{43}$/.exec(key)?.[1];
}
