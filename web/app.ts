import { type Client, connect } from "../src/client/index.ts";
import { Dashboard } from "./dashboard.ts";
import { byId } from "./dom.ts";
import { Playground } from "./playground.ts";
import { KeyNeeded, ServerPage } from "./server.ts";
import { setUpTheme } from "./theme.ts";

const STORED_KEY = "cellbatch.key";
const RETRY_MS = 2000;

const server = new ServerPage(sessionStorage.getItem(STORED_KEY) ?? undefined);
const dashboard = new Dashboard(server);
const playground = new Playground();

setUpTheme(() => dashboard.restyle());
void begin();

/** Gets the models and a connection, asking for a key where one is needed, and tries until it has them. */
async function begin(): Promise<void> {
  for (;;) {
    try {
      const models = await server.models();
      const client = await open();
      playground.use(client, models);
      dashboard.listen();
      return;
    } catch (error) {
      if (error instanceof KeyNeeded) await askForKey();
      else {
        show("lost", "No connection, trying again");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}

function open(): Promise<Client> {
  return connect(location.origin, {
    ...(server.key === undefined ? {} : { key: server.key }),
    reconnectMs: Number.POSITIVE_INFINITY,
    onState: (state) =>
      show(
        state,
        { open: "Connected", connecting: "Connecting", lost: "No connection", closed: "Closed" }[state],
      ),
  });
}

function show(state: string, text: string): void {
  const pill = byId("connection");
  pill.dataset.state = state;
  pill.textContent = text;
}

/** Resolves once the form has given a key. */
function askForKey(): Promise<void> {
  const form = byId<HTMLFormElement>("key-form");
  const input = byId<HTMLInputElement>("key");
  const error = byId("key-error");
  show("lost", "Key needed");
  error.hidden = server.key === undefined;
  error.textContent = "The server refused this key.";
  form.hidden = false;
  input.focus();
  return new Promise((resolve) => {
    form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        server.key = input.value;
        sessionStorage.setItem(STORED_KEY, input.value);
        form.hidden = true;
        resolve();
      },
      { once: true },
    );
  });
}
