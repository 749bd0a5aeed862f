import type { WireBuffers, WireDecision } from "../src/server/watch-protocol.ts";
import { byId, element } from "./dom.ts";

/** Lists what was decided about buffers, the latest first; hidden where nothing was. */
export function showDecisions(decisions: readonly WireDecision[]): void {
  byId("decisions").hidden = decisions.length === 0;
  byId("decision-list").replaceChildren(...decisions.toReversed().map(entry));
}

function entry({ at, model, action, reason, before, ...after }: WireDecision): HTMLElement {
  const when = element("time", { dateTime: at }, new Date(at).toLocaleTimeString());
  const buffers = action === "swapped" ? `${inWords(before)} → ${inWords(after)}` : inWords(after);
  return element(
    "li",
    {},
    when,
    ` ${model}: ${said[action]}`,
    element("p", {}, buffers),
    element("p", { className: "hint" }, reason),
  );
}

const said: Readonly<Record<WireDecision["action"], string>> = {
  swapped: "buffers swapped",
  kept: "buffers kept",
  infeasible: "buffers kept, no others keep the goal",
  failed: "buffers kept, planning failed",
};

/** As in `up to 8: 4 in 20 ms; 16 in 50 ms; sent when idle`. */
export function inWords({ buffers, eager }: WireBuffers): string {
  const each = buffers.map(({ upTo, maxBatch, timeoutMs }) => {
    const sizes = upTo === undefined ? "" : `up to ${upTo}: `;
    return `${sizes}${maxBatch} in ${Number(timeoutMs.toPrecision(3))} ms`;
  });
  return [...each, ...(eager ? ["sent when idle"] : [])].join("; ");
}
