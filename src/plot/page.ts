import { escaped } from "./svg.ts";

export interface Section {
  readonly title: string;
  /** Paragraphs, as text. */
  readonly text?: readonly string[];
  /** The first row is the heading; columns of numbers stand to the right. */
  readonly tables?: readonly (readonly (readonly string[])[])[];
  /** SVG. */
  readonly plots?: readonly string[];
}

/** One HTML file that needs no other: tables and plots. */
export function page(title: string, intro: readonly string[], sections: readonly Section[]): string {
  const body = sections.map(
    ({ title, text = [], tables = [], plots = [] }) =>
      `<section><h2>${escaped(title)}</h2>\n${paragraphs(text)}${plots
        .map((plot) => `<figure>${plot}</figure>\n`)
        .join("")}${tables.map(tableOf).join("")}</section>\n`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>
  body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  h1 { font-size: 1.6rem; margin: 0 0 .5rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
  figure { margin: 1rem 0; overflow-x: auto } figure svg { max-width: 100%; height: auto }
  table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
  th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap }
  td:last-child:not(.number) { white-space: normal; min-width: 12rem } .number { text-align: right }
  p { margin: .5rem 0 } .intro { color: #444 }
</style>
<h1>${escaped(title)}</h1>
<div class="intro">${paragraphs(intro)}</div>
${body.join("")}</html>
`;
}

function paragraphs(text: readonly string[]): string {
  return text.map((line) => `<p>${escaped(line)}</p>\n`).join("");
}

function tableOf([heading = [], ...rows]: readonly (readonly string[])[]): string {
  const isNumber = heading.map((_, column) => isNumeric(rows.map((row) => row[column] ?? "")));
  const cells = (tag: string, row: readonly string[]) =>
    `<tr>${row.map((value, i) => `<${tag}${isNumber[i] ? ' class="number"' : ""}>${escaped(value)}</${tag}>`).join("")}</tr>`;
  return `<table><thead>${cells("th", heading)}</thead><tbody>${rows.map((row) => cells("td", row)).join("\n")}</tbody></table>\n`;
}

/** Whether most cells of a column that say anything begin with a number. */
function isNumeric(column: readonly string[]): boolean {
  const said = column.filter((value) => value !== "");
  return 2 * said.filter((value) => /^[-+]?[\d.]/.test(value)).length > said.length;
}
