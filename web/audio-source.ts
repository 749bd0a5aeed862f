/** Rate that models which listen want. */
export const SAMPLE_RATE = 16_000;
export const FRAME = 512;

/** The microphone, frame by frame, until `signal` is aborted. Rejects where there is none or it is not allowed. */
export async function listenTo(heard: (frame: Float32Array) => void, signal: AbortSignal): Promise<void> {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("This page may not use a microphone: open it by https or on this machine's own address");
  }
  const stream = await navigator.mediaDevices
    .getUserMedia({ audio: { channelCount: 1, echoCancellation: false, autoGainControl: false } })
    .catch((cause: DOMException) => {
      throw new Error(microphoneProblem(cause), { cause });
    });
  const context = new AudioContext({ sampleRate: SAMPLE_RATE });
  const end = () => {
    for (const track of stream.getTracks()) track.stop();
    void context.close();
  };
  if (signal.aborted) {
    end();
    return;
  }
  signal.addEventListener("abort", end, { once: true });
  await context.audioWorklet.addModule("/microphone.js");
  if (signal.aborted) return;
  const framer = new AudioWorkletNode(context, "framer", { numberOfOutputs: 0 });
  framer.port.onmessage = ({ data }: MessageEvent<Float32Array>) => heard(data);
  context.createMediaStreamSource(stream).connect(framer);
  await context.resume();
}

function microphoneProblem({ name, message }: DOMException): string {
  if (name === "NotAllowedError")
    return "The microphone was not allowed. Allow it for this page in the browser and try again.";
  if (name === "NotFoundError") return "There is no microphone. A WAV file works too.";
  return `The microphone cannot be used: ${message}`;
}

/** The sound of a file, mono at 16 kHz. Rejects where the browser cannot read it. */
export async function samplesOf(file: File): Promise<Float32Array> {
  const bytes = await file.arrayBuffer();
  const decoder = new OfflineAudioContext(1, 1, SAMPLE_RATE);
  // Decoding gives the context's rate.
  const decoded = await decoder.decodeAudioData(bytes).catch((cause) => {
    throw new Error(`'${file.name}' is no sound that this browser can read; a WAV file is`, { cause });
  });
  const mixed = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    decoded.getChannelData(channel).forEach((value, i) => {
      mixed[i] = mixed[i]! + value / decoded.numberOfChannels;
    });
  }
  return mixed;
}
