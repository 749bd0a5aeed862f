import { byId } from "./dom.ts";

const STORED = "cellbatch.theme";

/** Sets up the switch between light and dark; until it is used, the system decides. `changed` is called after every change. */
export function setUpTheme(changed: () => void): void {
  const button = byId<HTMLButtonElement>("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = localStorage.getItem(STORED);
  let isDark = stored ? stored === "dark" : system.matches;
  const show = () => {
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(isDark));
    changed();
  };
  button.addEventListener("click", () => {
    isDark = !isDark;
    localStorage.setItem(STORED, isDark ? "dark" : "light");
    show();
  });
  system.addEventListener("change", () => {
    if (localStorage.getItem(STORED)) return;
    isDark = system.matches;
    show();
  });
  show();
}

/** Colours of the page as it looks now, for what is drawn by script. */
export function colours(): {
  readonly text: string;
  readonly muted: string;
  readonly grid: string;
  readonly surface: string;
  /** For kinds of cells, in order; told apart by colour-blind readers too. */
  readonly series: readonly string[];
} {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: of("text"),
    muted: of("muted"),
    grid: of("grid"),
    surface: of("surface"),
    series: Array.from({ length: SERIES }, (_, i) => of(`series-${i + 1}`)),
  };
}

const SERIES = 6;
