import type { ProfileOverheads } from "../core/profile.ts";
import { Random } from "../core/random.ts";
import { median } from "../load/statistics.ts";
import type { Result, Runtime } from "../runtime/types.ts";
import type { SizedRequest, SizedRequests } from "./sized-requests.ts";

/** A request that nobody was beside: the whole of it, and what of it was not the engine's. */
interface Lone {
  readonly totalUs: number;
  readonly wayUs: number;
}

/**
 * Measures the way to an engine's thread and back, and what pauses add. The way: lone requests one at once after the other. Pauses:
 * requests of mixed sizes after mixed pauses, as they come to a server that has little to do, against those. A processor that
 * pauses now and then is slower even after no pause, so that the first of the costs is for none.
 */
export async function measureLone(
  runtime: Runtime,
  model: string,
  { request, sizes, round: told }: SizedRequests,
): Promise<Pick<ProfileOverheads, "hopUs" | "sizeUs" | "idle">> {
  const [least, most] = [sizes[0]!, sizes.at(-1)!];
  const goes = [...new Set([least, sizes[Math.floor(sizes.length / 2)]!, most])].map((size) => ({
    size,
    atOnce: [] as Lone[],
    after: PAUSES_MS.map((): Lone[] => []),
  }));
  const pauses = goes.flatMap(({ size, after }) =>
    after.map((seen, i) => ({ size, seen, ms: PAUSES_MS[i]! })),
  );
  const random = new Random(1);
  const until = performance.now() + ENOUGH_MS;
  for (let round = -WARM_ROUNDS; round < ROUNDS && (round < 1 || performance.now() < until); round++) {
    for (const { size, atOnce } of goes) {
      for (let i = 0; i < WARM_AT_ONCE + AT_ONCE; i++) {
        const one = await ask(runtime, model, request(i, size), 0);
        if (round >= 0 && i >= WARM_AT_ONCE) atOnce.push(one);
      }
    }
    for (let i = 0; i < PAUSES_A_ROUND; i++) {
      for (const { size, seen, ms } of shuffled(pauses, random)) {
        const one = await ask(runtime, model, request(i, size), ms);
        if (round >= 0) seen.push(one);
      }
    }
    told();
  }
  const of = (name: keyof Lone, seen: readonly Lone[]) => median(seen.map((one) => one[name]));
  const wayUs = goes.map(({ atOnce }) => of("wayUs", atOnce));
  const sizeUs = most > least ? Math.max(0, (wayUs.at(-1)! - wayUs[0]!) / (most - least)) : 0;
  return {
    hopUs: Math.max(0, wayUs[0]! - least * sizeUs),
    sizeUs,
    idle: PAUSES_MS.map((afterMs, i) => ({
      afterMs,
      us: Math.max(
        0,
        median(goes.map(({ atOnce, after }) => of("totalUs", after[i]!) - of("totalUs", atOnce))),
      ),
    })),
  };
}

async function ask(
  runtime: Runtime,
  model: string,
  { inputs, maxSteps }: SizedRequest,
  pauseMs: number,
): Promise<Lone> {
  if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  const from = performance.now();
  return new Promise((resolve, failed) => {
    const done = ({ usage: { queueMs, computeMs } }: Result) => {
      const totalMs = performance.now() - from;
      resolve({ totalUs: totalMs * 1000, wayUs: (totalMs - queueMs - computeMs) * 1000 });
    };
    runtime.submit(model, inputs, { maxSteps }, { done, failed });
  });
}

function shuffled<T>(all: readonly T[], random: Random): T[] {
  const left = [...all];
  return all.map(() => left.splice(random.integer(0, left.length - 1), 1)[0]!);
}

const PAUSES_MS = [0, 1, 2, 4, 8];
const ROUNDS = 10;
const WARM_ROUNDS = 2;
export const LONE_ROUNDS = WARM_ROUNDS + ROUNDS;
/** After this long, one round that counts is enough. */
const ENOUGH_MS = 8000;
/** In a round, after some that make it warm. */
const AT_ONCE = 20;
const WARM_AT_ONCE = 10;
/** How often each pause comes in a round, for each size. */
const PAUSES_A_ROUND = 3;
