/** Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    let signals = 0;
    const heard = () => {
      signals++;
      if (signals === 1) resolve();
      else process.exit(1);
    };
    process.on("SIGTERM", heard);
    process.on("SIGINT", heard);
  });
}
