import type { ServerResponse } from "node:http";
import { Fault } from "../../core/faults.ts";

/**
 * Sends JSON objects as server-sent events. What fails before the first is thrown, since the status can still tell of it;
 * later it is an event with an `error`. A reader that takes nothing for `slowMs` loses its connection.
 */
export async function sendEvents(
  begin: () => ServerResponse,
  events: AsyncGenerator<string>,
  slowMs: number,
  unexpected: (error: unknown) => void,
): Promise<void> {
  let next = await events.next();
  const response = begin();
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
  });
  try {
    for (; !next.done; next = await events.next()) {
      if (!response.write(`data: ${next.value}\n\n`)) await drained(response, slowMs);
    }
  } catch (error) {
    if (!(error instanceof Fault)) unexpected(error);
    const message = error instanceof Fault ? error.message : "internal error";
    response.write(`data: ${JSON.stringify({ error: message })}\n\n`);
  } finally {
    await events.return(undefined);
    response.end();
  }
}

function drained(response: ServerResponse, slowMs: number): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      response.off("drain", end);
      response.off("close", end);
      resolve();
    };
    const timer = setTimeout(() => response.destroy(), slowMs);
    response.once("drain", end);
    response.once("close", end);
    if (response.destroyed) end();
  });
}
