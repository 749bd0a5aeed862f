import type { Client } from "../src/client/client.ts";
import type { ClientError } from "../src/client/errors.ts";
import type { Session } from "../src/client/session.ts";
import type { Tensor } from "../src/client/values.ts";
import type { WireModel } from "../src/server/watch-protocol.ts";
import { FRAME, listenTo, SAMPLE_RATE, samplesOf } from "./audio-source.ts";
import { element } from "./dom.ts";
import { announce, type Panel } from "./panel.ts";
import { SPEECH, SpeechView } from "./speech-view.ts";

/** Below this a stretch of speech has ended; between the two, nothing changes. */
const SILENCE = 0.35;
const FRAME_MS = (FRAME / SAMPLE_RATE) * 1000;
/** Frames of the microphone that may wait to be sent; older ones are dropped, for what is heard must stay current. */
const MOST_WAITING = 50;

/** Microphone or file in, and where there is speech. */
export function audioPanel(client: Client, model: WireModel): Panel {
  const input = model.inputs[0]!.name;
  const microphone = element(
    "button",
    { type: "button", className: "primary", "aria-pressed": "false" },
    "Use the microphone",
  );
  const file = element("input", { id: "sound", type: "file", accept: "audio/*,.wav" });
  const error = element("p", { className: "error", role: "alert", hidden: true });
  const verdict = element("p", { className: "verdict", role: "status" }, "Not listening");
  const facts = element(
    "p",
    { className: "hint" },
    "Speak, or choose a file. Sound goes to this server only.",
  );
  const view = new SpeechView();
  const content = element(
    "div",
    {},
    element("div", { className: "actions" }, microphone),
    element("div", { className: "field" }, element("label", { htmlFor: "sound" }, "Or a WAV file"), file),
    error,
    element("h3", {}, "Voice activity"),
    verdict,
    view.canvas,
    facts,
  );
  let running: AbortController | undefined;
  let isSpeech: boolean | undefined;

  const say = (next: boolean | undefined, text: string) => {
    if (isSpeech === next && verdict.textContent === text) return;
    isSpeech = next;
    verdict.textContent = text;
    verdict.dataset.speech = String(next === true);
  };
  const fail = (cause: unknown) => {
    const { code, message } = cause as ClientError;
    error.textContent = code ? `${message} (${code})` : message;
    error.hidden = false;
  };
  const stop = () => {
    running?.abort();
    running = undefined;
    microphone.textContent = "Use the microphone";
    microphone.setAttribute("aria-pressed", "false");
  };
  const begin = (): {
    readonly session: Session;
    readonly signal: AbortSignal;
    readonly read: Promise<number>;
  } => {
    stop();
    error.hidden = true;
    view.clear();
    running = new AbortController();
    const { signal } = running;
    const session = client.session(model.name, { signal });
    const read = (async () => {
      let speechMs = 0;
      for await (const { step, outputs } of session) {
        const probability = Number((Object.values(outputs)[0] as Tensor).data[0]);
        view.judged(step, probability);
        if (probability >= SPEECH) speechMs += FRAME_MS;
        if (probability >= SPEECH) say(true, "Speech");
        else if (probability < SILENCE || isSpeech === undefined) say(false, "Silence");
        facts.textContent = `${(((step + 1) * FRAME_MS) / 1000).toFixed(1)} s heard, ${(speechMs / 1000).toFixed(1)} s of it speech`;
      }
      return speechMs;
    })();
    // The loop below and this one end for the same reason; one of them tells.
    read.catch(() => {});
    return { session, signal, read };
  };
  const useMicrophone = async () => {
    const { session, signal } = begin();
    microphone.textContent = "Stop listening";
    microphone.setAttribute("aria-pressed", "true");
    say(undefined, "Listening");
    let waiting = 0;
    const heard = (frame: Float32Array) => {
      if (waiting >= MOST_WAITING || signal.aborted) return;
      waiting++;
      view.heard(frame);
      session
        .push({ [input]: { shape: [FRAME], data: frame } })
        .catch((cause) => {
          if (signal.aborted) return;
          stop();
          fail(cause);
        })
        .finally(() => waiting--);
    };
    try {
      await listenTo(heard, signal);
    } catch (cause) {
      stop();
      say(undefined, "Not listening");
      fail(cause);
    }
  };
  const useFile = async (chosen: File) => {
    const { session, signal, read } = begin();
    say(undefined, "Reading the file");
    try {
      const samples = await samplesOf(chosen);
      for (let at = 0; at + FRAME <= samples.length; at += FRAME) {
        const frame = samples.slice(at, at + FRAME);
        view.heard(frame);
        await session.push({ [input]: { shape: [FRAME], data: frame } });
      }
      await session.end();
      const speechMs = await read;
      say(
        undefined,
        `${(speechMs / 1000).toFixed(1)} s of speech in ${(samples.length / SAMPLE_RATE).toFixed(1)} s`,
      );
      announce(verdict.textContent!);
    } catch (cause) {
      if (signal.aborted) return;
      say(undefined, "Not listening");
      fail(cause);
    }
    if (running?.signal === signal) stop();
  };
  microphone.addEventListener("click", () => {
    if (microphone.getAttribute("aria-pressed") === "true") {
      stop();
      say(undefined, "Not listening");
    } else void useMicrophone();
  });
  file.addEventListener("change", () => {
    const [chosen] = file.files ?? [];
    file.value = "";
    if (chosen) void useFile(chosen);
  });
  return { content, stop };
}
