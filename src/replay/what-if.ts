import { Tally } from "./figures.ts";
import type { SessionWork } from "./reproduce.ts";
import { VirtualServer, type WhatIf } from "./virtual-server.ts";

/** What was recorded. */
export function tallyRecorded(sessions: readonly SessionWork[]): Tally {
  const tally = new Tally();
  for (const { lives, engines } of sessions) {
    for (const { batches, requests } of lives) {
      for (const batch of batches) tally.batch(batch);
      for (const request of requests)
        if (request.kind === "whole" || !request.isSession) tally.request(request);
    }
    tally.endSession(engines);
  }
  return tally;
}

/** Runs recorded requests again in virtual time, each batch for as long as one of its size took. */
export function tallyWhatIf(sessions: readonly SessionWork[], whatIf: WhatIf): Tally {
  const tally = new Tally();
  for (const session of sessions) {
    new VirtualServer(session, whatIf, tally).run();
    tally.endSession(whatIf.engines ?? session.engines);
  }
  return tally;
}
