import type { Client } from "../src/client/client.ts";
import type { WireModel } from "../src/server/watch-protocol.ts";
import { audioPanel } from "./audio-panel.ts";
import { byId, element } from "./dom.ts";
import type { Panel } from "./panel.ts";
import { requestPanel } from "./request-panel.ts";
import { sessionPanel } from "./session-panel.ts";

/** Samples per step and per second of models that listen. */
const AUDIO_FRAME = 512;

/** The choice of a model, and the panel that goes with it. */
export class Playground {
  readonly #select = byId<HTMLSelectElement>("model");
  readonly #description = byId("model-description");
  readonly #place = byId("panel");
  #panel: Panel | undefined;

  use(client: Client, models: readonly WireModel[]): void {
    if (models.length === 0) {
      this.#place.replaceChildren(
        element(
          "p",
          { className: "empty" },
          "This server has no models. Start it with --model or --models to try one here.",
        ),
      );
      return;
    }
    this.#select.replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
    this.#select.disabled = false;
    const show = () =>
      this.#show(client, models.find(({ name }) => name === this.#select.value) ?? models[0]!);
    this.#select.addEventListener("change", show);
    show();
  }

  #show(client: Client, model: WireModel): void {
    this.#panel?.stop();
    const { version, description, program, cells } = model;
    this.#description.textContent = `${description} Version ${version}, ${program}${cells.length > 0 ? `, cells: ${cells.map(({ name }) => name).join(", ")}` : ""}.`;
    this.#panel = panelFor(model)(client, model);
    this.#place.replaceChildren(this.#panel.content);
  }
}

function panelFor({ streaming, inputs }: WireModel): (client: Client, model: WireModel) => Panel {
  if (!streaming) return requestPanel;
  const [first] = inputs;
  const isAudio =
    inputs.length === 1 && first!.type === "float32" && first!.shape.join() === `-1,${AUDIO_FRAME}`;
  return isAudio ? audioPanel : sessionPanel;
}
