import { timingSafeEqual } from "node:crypto";
import { Fault } from "../../core/faults.ts";
import { Caller } from "./caller.ts";
import { hashOf, idOfKey, type KeyEntry } from "./key-file.ts";

interface Known {
  readonly hash: Buffer;
  readonly caller: Caller;
}

/** Who may call, by key; anybody where there are no keys. */
export class Keyring {
  readonly #anybody = new Caller("", {});
  #known: Map<string, Known> | undefined;

  constructor(keys: readonly KeyEntry[] | undefined) {
    if (keys) this.replace(keys);
  }

  /** Whether callers need a key. */
  get isOn(): boolean {
    return this.#known !== undefined;
  }

  /** Takes other keys from now on: callers whose key stays are the same with new limits, the others are revoked. */
  replace(keys: readonly KeyEntry[]): void {
    const before = this.#known ?? new Map<string, Known>();
    const known = keys.map(({ name, id, hash, created: _, ...limits }): [string, Known] => {
      const last = before.get(id);
      const stays = last?.hash.toString("hex") === hash && last.caller.name === name;
      const caller = stays ? last.caller : new Caller(name, limits);
      caller.limit(limits);
      return [id, { hash: Buffer.from(hash, "hex"), caller }];
    });
    this.#known = new Map(known);
    for (const [id, { caller }] of before) if (this.#known.get(id)?.caller !== caller) caller.revoke();
  }

  /** Whose key it is. Throws UNAUTHORIZED that says how to bring one. */
  callerOf(key: string | undefined): Caller {
    if (!this.#known) return this.#anybody;
    if (key === undefined) {
      throw new Fault("UNAUTHORIZED", "a key is needed: send it as 'Authorization: Bearer <key>'");
    }
    const known = this.#known.get(idOfKey(key) ?? "");
    // An unknown id costs what a wrong key costs.
    const isRight = timingSafeEqual(hashOf(key), known?.hash ?? NO_HASH);
    if (known && isRight) return known.caller;
    throw new Fault("UNAUTHORIZED", "the key is not known here");
  }

  /** Whose `Authorization` header it is. Throws UNAUTHORIZED. */
  callerOfHeader(authorization: string | undefined): Caller {
    if (!this.#known) return this.#anybody;
    return this.callerOf(/^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1]);
  }
}

const NO_HASH = Buffer.alloc(32);
