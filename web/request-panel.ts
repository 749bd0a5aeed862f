import type { Client } from "../src/client/client.ts";
import type { ClientError } from "../src/client/errors.ts";
import type { Parameters } from "../src/client/parameters.ts";
import type { Tensor, Values } from "../src/client/values.ts";
import type { WireModel } from "../src/server/watch-protocol.ts";
import { element, field } from "./dom.ts";
import { exampleJson, inputsOf } from "./example.ts";
import { announce, type Panel } from "./panel.ts";
import { parametersForm } from "./parameters-form.ts";
import { describeTensor } from "./tensors.ts";

const MOST_AT_ONCE = 200;
/** Requests that are sent at once begin this far apart at most, so that one sees them join. */
const SPREAD_MS = 60;

/** Text or tensors in, and what comes out step by step. */
export function requestPanel(client: Client, model: WireModel): Panel {
  const texts = model.inputs.every(({ type }) => type === "text") ? model.inputs : [];
  const input =
    texts.length === 1
      ? element("textarea", { id: "input", rows: 3, value: model.example?.[texts[0]!.name] ?? "" })
      : element("textarea", { id: "input", rows: 10, className: "code", value: exampleJson(model) });
  input.spellcheck = false;
  /** The inputs of `count` requests: the lines of a text are taken in turn, so that requests differ. */
  const read = (count: number): readonly Values[] => {
    if (texts.length !== 1) return new Array<Values>(count).fill(inputsOf(input.value, model));
    const lines = count === 1 ? [input.value] : input.value.split("\n").filter((line) => line !== "");
    return Array.from({ length: count }, (_, i) => ({ [texts[0]!.name]: lines[i % lines.length] ?? "" }));
  };
  const generates = model.outputs.some(({ type }) => type === "text") && model.program === "generate";
  const parameters = parametersForm(generates ? { temperature: 0.7, seed: 1 } : {});
  const copies = element("input", {
    id: "copies",
    type: "number",
    min: "1",
    max: String(MOST_AT_ONCE),
    step: "1",
    value: "1",
  });
  const run = element("button", { type: "submit", className: "primary" }, "Run");
  const stop = element("button", { type: "button", disabled: true }, "Stop");
  const error = element("p", { className: "error", role: "alert", hidden: true });
  const output = element("output", { className: "output", htmlFor: "input", "aria-label": "Output" });
  const usage = element("p", { className: "hint" });
  const form = element(
    "form",
    {},
    texts.length === 1
      ? field(`Input: ${texts[0]!.name}`, input, "Enter runs it. Several at once take its lines in turn.")
      : field("Inputs, as JSON", input, "Ctrl+Enter runs it."),
    parameters.content,
    element("div", { className: "actions" }, run, stop, field("At once", copies)),
    error,
    element("h3", {}, "Output"),
    output,
    usage,
  );
  showEmpty(output);

  let running: AbortController | undefined;
  const fail = (message: string) => {
    error.textContent = message;
    error.hidden = false;
  };
  const start = async () => {
    error.hidden = true;
    const count = Math.min(MOST_AT_ONCE, Math.max(1, Math.round(copies.valueAsNumber) || 1));
    let inputs: readonly Values[];
    try {
      inputs = read(count);
    } catch (cause) {
      fail((cause as Error).message);
      input.focus();
      return;
    }
    running?.abort();
    const mine = new AbortController();
    running = mine;
    stop.disabled = false;
    output.replaceChildren();
    usage.textContent = "Running";
    const wishes = parameters.read();
    let done = 0;
    const others = Array.from({ length: count - 1 }, async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, ((i + 1) * SPREAD_MS) / count));
      await client.run(model.name, inputs[i + 1]!, {
        ...wishes,
        seed: (wishes.seed ?? 0) + i + 1,
        signal: mine.signal,
      });
      done++;
    });
    const failures: ClientError[] = [];
    const settled = others.map((one) => one.catch((cause: ClientError) => failures.push(cause)));
    const startedMs = performance.now();
    try {
      const steps = await stream(client, model, inputs[0]!, { ...wishes, signal: mine.signal }, output);
      await Promise.all(settled);
      if (failures[0]) throw failures[0];
      const ms = performance.now() - startedMs;
      const many = count > 1 ? `, ${done + 1} requests in all` : "";
      usage.textContent = `${steps} ${steps === 1 ? "step" : "steps"} in ${ms.toFixed(1)} ms as seen from here${many}`;
      announce(`Done: ${output.textContent?.slice(0, 200)}. ${usage.textContent}`);
    } catch (cause) {
      usage.textContent = "";
      const { code, message } = cause as ClientError;
      if (mine.signal.aborted) usage.textContent = "Stopped";
      else fail(code ? `${message} (${code})` : message);
    } finally {
      mine.abort();
      if (output.childNodes.length === 0) showEmpty(output);
      if (running === mine) stop.disabled = true;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void start();
  });
  input.addEventListener("keydown", (event) => {
    const isSend =
      event.key === "Enter" && (event.ctrlKey || event.metaKey || texts.length === 1) && !event.shiftKey;
    if (!isSend || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  stop.addEventListener("click", () => running?.abort());
  return { content: form, stop: () => running?.abort() };
}

function showEmpty(output: HTMLElement): void {
  output.replaceChildren(
    element("span", { className: "empty" }, "Nothing yet. Run the model, or press Enter in the input."),
  );
}

/** Runs one request; text grows as it comes, tensors are shown when it is done. Answers how many steps came. */
async function stream(
  client: Client,
  model: WireModel,
  inputs: Values,
  options: Parameters & { readonly signal: AbortSignal },
  output: HTMLElement,
): Promise<number> {
  const texts = new Map<string, Text>();
  const tensors = new Map<string, Tensor[]>();
  let steps = 0;
  for await (const { outputs } of client.stream(model.name, inputs, options)) {
    steps++;
    for (const [name, value] of Object.entries(outputs)) {
      if (typeof value === "string") append(texts, output, name, value, model);
      else tensors.set(name, [...(tensors.get(name) ?? []).slice(-MOST_SHOWN), value]);
    }
  }
  for (const [name, values] of tensors) output.append(describeTensor(name, values));
  if (steps === 0) output.append(element("span", { className: "empty" }, "The model gave no output."));
  return steps;
}

/** Steps of one output that are kept for show. */
const MOST_SHOWN = 256;

function append(
  texts: Map<string, Text>,
  output: HTMLElement,
  name: string,
  value: string,
  model: WireModel,
): void {
  let text = texts.get(name);
  if (!text) {
    text = document.createTextNode("");
    texts.set(name, text);
    const isOnly = model.outputs.length === 1;
    output.append(
      element("p", { className: "text" }, ...(isOnly ? [] : [element("b", {}, `${name}: `)]), text),
    );
  }
  // Symbols that are words come one by one and are written with spaces between them.
  const isSymbol = text.data !== "" && value.length > 0 && model.program !== "generate";
  text.appendData(isSymbol ? ` ${value}` : value);
}
