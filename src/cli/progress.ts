/** How far something long has come: a bar on a terminal, a line for each part elsewhere. */
export interface Progress {
  /** A part begins, of `total` steps. */
  part(name: string, total: number): void;
  step(): void;
  /** Prints a line above the bar. */
  line(text: string): void;
  /** Takes the bar away. */
  stop(): void;
}

/** Writes to standard error, so that results can be piped. */
export async function progressOn(stream: NodeJS.WriteStream): Promise<Progress> {
  const bars = stream.isTTY ? await loadBars() : undefined;
  if (!bars) {
    return {
      part: (name) => stream.write(`${name}\n`),
      step: () => {},
      line: (text) => stream.write(`${text}\n`),
      stop: () => {},
    };
  }
  const bar = new bars.SingleBar({
    format: "{bar} {percentage} %  {name}",
    barCompleteChar: "\u2588",
    barIncompleteChar: "\u2591",
    barsize: 24,
    hideCursor: true,
    clearOnComplete: true,
    stream,
  });
  return {
    part: (name, total) => bar.start(total, 0, { name }),
    step: () => bar.increment(),
    line: (text) => {
      stream.write(`\r\u001b[K${text}\n`);
    },
    stop: () => bar.stop(),
  };
}

/** Undefined where the optional package was left out at install: lines tell as much. */
async function loadBars() {
  return import("cli-progress").then(
    (loaded) => loaded.default,
    () => undefined,
  );
}
