import type { Client } from "../src/client/client.ts";
import type { ClientError } from "../src/client/errors.ts";
import type { Session } from "../src/client/session.ts";
import type { WireModel } from "../src/server/watch-protocol.ts";
import { element, field } from "./dom.ts";
import { exampleJson, inputsOf } from "./example.ts";
import { announce, type Panel } from "./panel.ts";
import { describeTensor } from "./tensors.ts";

/** A session whose inputs are typed as JSON, one step at a time. */
export function sessionPanel(client: Client, model: WireModel): Panel {
  const input = element("textarea", {
    id: "input",
    rows: 10,
    className: "code",
    value: exampleJson(model),
  });
  input.spellcheck = false;
  const push = element("button", { type: "submit", className: "primary" }, "Push one step");
  const restart = element("button", { type: "button" }, "New session");
  const error = element("p", { className: "error", role: "alert", hidden: true });
  const output = element("output", { className: "output", htmlFor: "input", "aria-label": "Output" });
  const form = element(
    "form",
    {},
    field("Inputs of one step, as JSON", input),
    element("div", { className: "actions" }, push, restart),
    error,
    element("h3", {}, "Output of the last step"),
    output,
  );
  let session: Session | undefined;
  const fail = (message: string) => {
    error.textContent = message;
    error.hidden = false;
  };
  const begin = (): Session => {
    const begun = client.session(model.name);
    session = begun;
    void (async () => {
      try {
        for await (const { step, outputs } of begun) {
          const shown = Object.entries(outputs).map(([name, value]) =>
            typeof value === "string" ? element("p", {}, `${name}: ${value}`) : describeTensor(name, [value]),
          );
          output.replaceChildren(element("p", { className: "hint" }, `Step ${step}`), ...shown);
          announce(`Step ${step} is done`);
        }
      } catch (cause) {
        if (session !== begun) return;
        session = undefined;
        fail((cause as Error).message);
      }
    })();
    return begun;
  };
  const empty = () =>
    output.replaceChildren(element("span", { className: "empty" }, "Nothing yet. Push a step."));
  const end = () => {
    const old = session;
    session = undefined;
    old?.cancel();
  };
  empty();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.hidden = true;
    try {
      await (session ?? begin()).push(inputsOf(input.value, model));
    } catch (cause) {
      const { code, message } = cause as ClientError;
      fail(code ? `${message} (${code})` : message);
    }
  });
  restart.addEventListener("click", () => {
    end();
    empty();
  });
  return { content: form, stop: end };
}
