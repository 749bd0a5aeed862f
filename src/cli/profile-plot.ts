import type { Profile, ProfiledCell, ProfileSetting } from "../core/profile.ts";
import { lineChart } from "../plot/line-chart.ts";
import { page } from "../plot/page.ts";

/** One SVG for each cell, in their order: time per row and step against the rows of a call. */
export function profilePlots({ model, machine, cells }: Profile): Promise<string[]> {
  return Promise.all(
    cells.map((cell) =>
      lineChart({
        title: `${model.name}: what a row of cell '${cell.cell}' costs`,
        subtitle: `${machine.cpu}, ONNX Runtime ${machine.onnxruntime}; medians`,
        x: { label: "rows of a call", scale: "log", ticks: ticksOf(cell) },
        y: { label: cell.lane === "graph" ? "us per request" : "us per row and step", scale: "log" },
        series: cell.settings.map((setting) => ({
          name: settingName(setting, cell),
          points: setting.points.map(({ rows, us }) => [rows, us / rows / setting.stepsPerCall] as const),
        })),
      }),
    ),
  );
}

export async function profilePage(profile: Profile): Promise<string> {
  const { model, machine, measuredAt } = profile;
  const intro = [
    `${machine.cores} cores of ${machine.cpu}, Node ${machine.node}, ONNX Runtime ${machine.onnxruntime}, ${measuredAt}`,
  ];
  const plots = await profilePlots(profile);
  const sections = profile.cells.map((cell, i) => ({
    title: cell.cell,
    plots: [plots[i]!],
    tables: cell.settings.map((setting) => [
      ["rows", `us (${settingName(setting, cell)})`, "interquartile range", "us per row"],
      ...setting.points.map(({ rows, us, spreadUs }) => [
        String(rows),
        us.toFixed(1),
        spreadUs.toFixed(1),
        (us / rows).toFixed(2),
      ]),
    ]),
  }));
  return page(`${model.name} ${model.version}: cost of its cells`, intro, sections);
}

function ticksOf({ settings }: ProfiledCell): number[] {
  const most = Math.max(...settings.flatMap(({ points }) => points.map(({ rows }) => rows)));
  const ticks: number[] = [];
  for (let tick = 1; tick <= most; tick *= 2) ticks.push(tick);
  return ticks;
}

/** What tells a setting from the others of its cell. */
function settingName({ threads, stepsPerCall, size }: ProfileSetting, { settings }: ProfiledCell): string {
  const words: string[] = [];
  if (settings.some((one) => one.threads !== threads))
    words.push(threads === 1 ? "1 thread" : `${threads} threads`);
  if (size !== undefined) words.push(size === 1 ? "1 step" : `${size} steps`);
  else words.push(stepsPerCall === 1 ? "1 step a call" : `${stepsPerCall} steps a call`);
  return words.join(", ");
}
