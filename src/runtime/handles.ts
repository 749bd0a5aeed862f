import { Fault } from "../core/faults.ts";
import { command, writeOptions } from "../engine/messages.ts";
import type { Entries, Entry } from "./entries.ts";
import { engineOptions } from "./options.ts";
import { tell, writeTensors } from "./tell.ts";
import type { Handle, RequestOptions, SessionHandle } from "./types.ts";
import { tensorsOf } from "./values.ts";

/** What steers a request; does nothing once it has ended. */
export function requestHandle(entries: Entries, entry: Entry): Handle {
  const tellIf = (kind: number) => {
    if (entries.has(entry)) tell(entry, kind);
  };
  return {
    cancel: () => tellIf(command.CANCEL),
    pause: () => tellIf(command.PAUSE),
    resume: () => tellIf(command.RESUME),
  };
}

/** What steers a session and feeds it; forks get the same options. */
export function sessionHandle(entries: Entries, entry: Entry, options: RequestOptions): SessionHandle {
  const tellIf = (kind: number) => {
    if (entries.has(entry)) tell(entry, kind);
  };
  return {
    ...requestHandle(entries, entry),
    push: (inputs) => {
      const tensors = tensorsOf(entry.version.served, inputs, true);
      if (entries.has(entry)) writeTensors(tell(entry, command.PUSH), tensors);
      return tensors[0]?.shape[0] ?? 0;
    },
    end: () => tellIf(command.END),
    marker: (marker) => {
      if (entries.has(entry)) tell(entry, command.MARKER).int(marker);
    },
    suspend: () => tellIf(command.SUSPEND),
    fork: (listener) => {
      if (!entries.has(entry)) throw new Fault("SESSION_NOT_FOUND", "the session to fork has ended");
      const child = entries.accept(entry.version, listener, entry.isStage, () => entry.engine);
      const writer = tell(entry, command.FORK);
      writer.int(child.id);
      writeOptions(writer, engineOptions(options, true));
      return sessionHandle(entries, child, options);
    },
  };
}
