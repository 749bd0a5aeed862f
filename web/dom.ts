type Child = Node | string;
type Properties = Readonly<Record<string, unknown>>;

/** A new element: properties of the element as they are, those with a dash or named `for` or `role` as attributes. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (name in made && !name.includes("-")) Object.assign(made, { [name]: value });
    else made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/** The element of the page with that id. Throws where the page has none: then page and script do not belong together. */
export function byId<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element '${id}'`);
  return found as T;
}

/** A labelled field. */
export function field(label: string, input: HTMLElement & { id: string }, hint?: string): HTMLElement {
  const said = hint ? [element("small", { id: `${input.id}-hint` }, hint)] : [];
  if (hint) input.setAttribute("aria-describedby", `${input.id}-hint`);
  return element(
    "div",
    { className: "field" },
    element("label", { htmlFor: input.id }, label),
    input,
    ...said,
  );
}

/** A number as people read it: 12.3 k, 4.56, 0.12. */
export function readable(value: number): string {
  if (!Number.isFinite(value)) return "–";
  for (const [size, suffix] of [
    [1e9, " G"],
    [1e6, " M"],
    [1e4, " k"],
  ] as const) {
    if (Math.abs(value) >= size) return `${precise(value / (size === 1e4 ? 1e3 : size))}${suffix}`;
  }
  return precise(value);
}

function precise(value: number): string {
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toPrecision(Math.abs(value) < 1 ? 2 : 3);
}
