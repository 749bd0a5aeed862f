/**
 * Ends the command quietly, with the status it has so far, once nobody reads its output any more, as with `| head`.
 * A server that waits for SIGTERM is ended as by that signal, so that running requests may finish.
 */
export function endWithOutput(): void {
  let ending = false;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    if (ending) return;
    ending = true;
    if (!process.emit("SIGTERM", "SIGTERM")) process.exit();
  });
}
