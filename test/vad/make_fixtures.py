"""Writes fixtures/speech.wav and fixtures/expected.json: what Silero's own package says of the same audio.

    pip install silero-vad onnxruntime scipy        # and the command espeak-ng, only to speak the file anew
    python test/vad/make_fixtures.py node_modules/@ricky0123/vad-web/dist

speech.wav is spoken by espeak-ng (synthesised, so nobody's recording) between pauses, noise and a tone, 16 kHz, 16 bit.
`random` holds what `get_speech_timestamps` and `VADIterator` make of made-up probabilities: a walk from a linear congruential
generator that the test repeats.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from scipy.io import wavfile
from scipy.signal import resample_poly

try:
    import torchaudio  # noqa: F401
except ImportError:  # silero_vad imports it for read_audio, which is not used here
    import types

    sys.modules["torchaudio"] = types.ModuleType("torchaudio")

from silero_vad.utils_vad import OnnxWrapper, VADIterator, get_speech_timestamps

HERE = pathlib.Path(__file__).parent / "fixtures"
RATE = 16_000


def say(text, *options):
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-w", file.name, *options, text], check=True)
        rate, samples = wavfile.read(file.name)
    return resample_poly(samples / 32_768, RATE, rate)


def speak():
    noise = np.random.default_rng(1)
    quiet = lambda seconds: np.zeros(int(seconds * RATE))
    parts = [
        quiet(0.45),
        say("The quick brown fox jumps.", "-v", "en-us"),
        quiet(0.35),
        0.4 * say("Yes.", "-v", "en-gb"),
        0.02 * noise.standard_normal(int(0.6 * RATE)),
        say("One, two, three, four.", "-v", "en-us+f3", "-s", "120"),
        0.2 * np.sin(2 * np.pi * 440 * np.arange(int(0.5 * RATE)) / RATE),
        say("Good bye now", "-v", "en-us+m3", "-p", "30"),
    ]
    audio = np.concatenate(parts) + 0.001 * noise.standard_normal(sum(map(len, parts)))
    wavfile.write(HERE / "speech.wav", RATE, np.clip(audio * 32_768, -32_768, 32_767).astype(np.int16))


def heard(model, audio, rate):
    """Probabilities frame by frame, the last frame filled up with zeros."""
    model.reset_states()
    size = rate * 32 // 1000
    padded = torch.nn.functional.pad(audio, (0, -len(audio) % size))
    return [model(frame, rate).item() for frame in padded.split(size)]


OPTIONS = [
    {},
    {"threshold": 0.3},
    {"threshold": 0.8, "neg_threshold": 0.2},
    {"min_silence_duration_ms": 0, "speech_pad_ms": 0, "min_speech_duration_ms": 0},
    {"min_silence_duration_ms": 0, "speech_pad_ms": 200},
    {"min_silence_duration_ms": 500},
    {"min_speech_duration_ms": 700},
    {"max_speech_duration_s": 1},
    {"max_speech_duration_s": 0.6, "min_silence_duration_ms": 300, "speech_pad_ms": 15.5},
]


class Walk:
    """A model that says what a seed says: 256 levels, moving by up to 48 of them per frame."""

    def __init__(self, seed):
        self.seed = seed
        self.reset_states()

    def reset_states(self):
        self.state = self.seed
        self.level = 100

    def __call__(self, _frame, _rate):
        self.state = (self.state * 1_664_525 + 1_013_904_223) % 2**32
        self.level = min(255, max(0, self.level + (self.state >> 16) % 97 - 48))
        return torch.tensor(self.level / 256)


def iterate(model, audio, options):
    iterator = VADIterator(model, **options)
    return [said for frame in audio.split(512) if (said := iterator(frame))]


def walks():
    draw = np.random.default_rng(2)
    pick = lambda *values: values[draw.integers(len(values))]
    cases = []
    for seed in range(300):
        options = {
            "threshold": pick(0.3, 0.5, 0.7),
            "min_silence_duration_ms": pick(0, 40, 100, 100, 333),
            "speech_pad_ms": pick(0, 10.3, 30, 30, 100, 400),
            "min_speech_duration_ms": pick(0, 64, 250, 250, 600),
        }
        if seed % 2:
            options["max_speech_duration_s"] = pick(1, 1.7, 3)
        if seed % 3 == 0:
            options["neg_threshold"] = options["threshold"] - pick(0.05, 0.25)
        samples = int(draw.integers(40_000, 120_000))
        found = get_speech_timestamps(torch.zeros(samples), Walk(seed), **options)
        cases.append({"seed": seed, "samples": samples, "options": options, "speech": [[s["start"], s["end"]] for s in found]})
    return cases


def main(folder):
    HERE.mkdir(exist_ok=True)
    if not (HERE / "speech.wav").exists():
        speak()
    audio = torch.from_numpy(wavfile.read(HERE / "speech.wav")[1].astype(np.float32) / 32_768)
    expected = {"models": [], "random": walks()}
    for file, rate in [("silero_vad_v5.onnx", 16_000), ("silero_vad_v6.onnx", 16_000), ("silero_vad_v5.onnx", 8_000)]:
        model = OnnxWrapper(str(pathlib.Path(folder) / file), force_onnx_cpu=True)
        taken = audio if rate == RATE else audio[::2].contiguous()
        speech = [
            {"options": options, "speech": [[s["start"], s["end"]] for s in get_speech_timestamps(taken, model, sampling_rate=rate, **options)]}
            for options in OPTIONS
        ]
        whole = taken[: len(taken) // 512 * 512]
        said = iterate(model, whole, {}) if rate == RATE else []
        entry = {"file": file, "rate": rate, "probabilities": [round(p, 7) for p in heard(model, taken, rate)]}
        expected["models"].append({**entry, "timestamps": speech, "iterator": said})
    (HERE / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
    for model in expected["models"]:
        print(model["file"], model["rate"], len(model["probabilities"]), [t["speech"] for t in model["timestamps"]], model["iterator"])


main(sys.argv[1])
