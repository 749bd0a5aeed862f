import type { WatchedStep } from "../../src/runtime/types.ts";

export interface NamedRequest {
  readonly request: number;
  readonly name: string;
  readonly answer: string;
}

const LEFT = 118;
const RIGHT = 150;
const TOP = 30;
const COLUMN = 11;
const LANE = 19;
const BLOCK = 14;

/** An SVG of steps as columns and requests as lanes; it has colours for light and for dark pages. */
export function drawLanes(steps: readonly WatchedStep[], requests: readonly NamedRequest[]): string {
  const columns = columnsOf(steps);
  const width = LEFT + columns.length * COLUMN + RIGHT;
  const floor = TOP + requests.length * LANE;
  const height = floor + 46;
  const x = (column: number) => LEFT + column * COLUMN;
  const cells = [...new Set(steps.map(({ cell }) => cell))];
  const lanes = requests.map(({ request, name, answer }, lane) => {
    const y = TOP + lane * LANE;
    const mine = columns.flatMap((one, at) => (one.requests.includes(request) ? [at] : []));
    const [first, last] = [mine[0]!, mine.at(-1)!];
    const middle = y + LANE / 2 + 4;
    return [
      `<text class="name" x="${LEFT - 12}" y="${middle}" text-anchor="end">${name}</text>`,
      `<rect class="life" x="${x(first)}" y="${y + 3}" width="${(last - first + 1) * COLUMN - 2}" height="${BLOCK}" rx="3"/>`,
      ...mine.map((at) => {
        const kind = cells.indexOf(columns[at]!.cell) + 1;
        return `<rect class="cell-${kind}" x="${x(at)}" y="${y + 3}" width="${COLUMN - 2}" height="${BLOCK}" rx="2"/>`;
      }),
      `<text class="answer" x="${x(last + 1) + 6}" y="${middle}">${answer}</text>`,
    ].join("\n");
  });
  const rows = columns.map(
    ({ requests: here }, at) =>
      `<text class="count" x="${x(at) + COLUMN / 2 - 1}" y="${floor + 18}" text-anchor="middle">${here.length}</text>`,
  );
  const legend = cells.map(
    (cell, i) =>
      `<rect class="cell-${i + 1}" x="${LEFT + i * 110}" y="8" width="11" height="11" rx="2"/><text class="name" x="${LEFT + i * 110 + 18}" y="18">${cell} cell</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title">
<title id="title">Requests as lanes over the steps of an engine: every column is one batched cell over the requests that are there</title>
<style>
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #17202b }
.answer, .count, .note { fill: #5a6675; font-size: 11px }
.life { fill: #e4e9f0 } .cell-1 { fill: #0072b2 } .cell-2 { fill: #d98200 }
@media (prefers-color-scheme: dark) {
text { fill: #e7edf4 } .answer, .count, .note { fill: #98a6b5 }
.life { fill: #26303b } .cell-1 { fill: #56b4e9 } .cell-2 { fill: #f0a93c }
}
</style>
${legend.join("\n")}
${lanes.join("\n")}
<text class="note" x="${LEFT - 12}" y="${floor + 18}" text-anchor="end">rows</text>
${rows.join("\n")}
<text class="note" x="${LEFT}" y="${floor + 38}">steps of the engine, in order: each column is one batched cell over whoever is there</text>
</svg>
`;
}

/** One column for every step; a call of several steps gives several. */
function columnsOf(steps: readonly WatchedStep[]): readonly Pick<WatchedStep, "cell" | "requests">[] {
  return steps.flatMap(({ cell, requests, steps: count }) => new Array(count).fill({ cell, requests }));
}
