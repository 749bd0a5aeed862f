"""Trains the speller and writes weights, vocabulary and fixture.

    python train.py --dictionary index.js --out .
"""

import argparse
import itertools
import json
import math
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from measure import error_rates, pronounce, search
from network import Speller, stored_name
from pronunciations import LETTERS, fnv1a, read_pronunciations, split

IGNORED = -100
WARM_UP = 0.05
# Another kernel rounds differently; a fixture word must not hang on the last bits.
FIXTURE_GAP = 0.01


def main():
    options = read_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    training, development, held_out = split(read_pronunciations(options.dictionary))
    vocabulary = make_vocabulary(training)
    out = Path(options.out)
    write_json(out / "vocabulary.json", vocabulary)
    speller = make_speller(vocabulary, options)
    for averaged in train(speller, pairs_of(training, vocabulary), vocabulary, development, options):
        weights = {stored_name(name): tensor.half().contiguous() for name, tensor in averaged.state_dict().items()}
        save_file(weights, out / "weights.safetensors")
    report(out, vocabulary, development, held_out, options)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dictionary", required=True, help="index.js of cmu-pronouncing-dictionary")
    parser.add_argument("--out", required=True, help="folder for the weights, vocabulary and fixture")
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--memory", type=int, default=128, help="values of a letter that the decoder may look at")
    parser.add_argument("--attended", type=int, default=384, help="values between the decoder and its head")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--smoothing", type=float, default=0.1, help="label smoothing")
    parser.add_argument("--minutes", type=float, default=110, help="the learning rate follows the clock and is 0 at the end")
    parser.add_argument("--rows", type=int, default=128, help="pairs in a batch")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--width", type=int, default=4, help="of the beam search in the fixture")
    parser.add_argument("--decay", type=float, default=0.999, help="of the average over the weights of all steps")
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16: half the time where the processor has it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def make_speller(vocabulary, options):
    sizes = options.embedding, options.hidden, options.memory, options.attended
    return Speller(len(vocabulary["input"]), len(vocabulary["output"]), *sizes, options.dropout)


def make_vocabulary(words):
    phonemes = sorted({phoneme for known in words.values() for one in known for phoneme in one})
    return {"input": LETTERS, "output": ["<start>", "<stop>", *phonemes], "start": 0, "stop": 1}


def pairs_of(words, vocabulary):
    """Every listed pronunciation is a pair of its own: (letters, phonemes), as numbers."""
    letter = {symbol: number for number, symbol in enumerate(vocabulary["input"])}
    phoneme = {symbol: number for number, symbol in enumerate(vocabulary["output"])}
    return [([letter[one] for one in word], [phoneme[one] for one in spoken]) for word, known in words.items() for spoken in known]


def batches_of(pairs, rows, chance):
    """Shuffled batches of one letter count and of similar phoneme counts: little padding."""
    pairs = chance.sample(pairs, len(pairs))
    pairs.sort(key=lambda pair: (len(pair[0]), len(pair[1])))
    batches, batch = [], []
    for pair in pairs:
        if batch and (len(batch) == rows or len(batch[0][0]) != len(pair[0])):
            batches.append(batch)
            batch = []
        batch.append(pair)
    batches.append(batch)
    chance.shuffle(batches)
    return batches


def tensors_of(batch, vocabulary):
    """Returns letters [L, rows], phonemes in [P, rows] and phonemes out [P, rows]."""
    longest = max(len(spoken) for _, spoken in batch)
    given = [[vocabulary["start"], *spoken] + [vocabulary["stop"]] * (longest - len(spoken)) for _, spoken in batch]
    wanted = [[*spoken, vocabulary["stop"]] + [IGNORED] * (longest - len(spoken)) for _, spoken in batch]
    return tuple(torch.tensor(table).T.contiguous() for table in ([letters for letters, _ in batch], given, wanted))


def train(speller, pairs, vocabulary, development, options):
    """Yields the averaged speller after every epoch, and a last time when the time is over."""
    averaged = AveragedModel(speller, multi_avg_fn=get_ema_multi_avg_fn(options.decay))
    chance = random.Random(options.seed)
    optimizer = torch.optim.AdamW(speller.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    began = time.monotonic()
    share = 0.0
    for epoch in itertools.count(1):
        speller.train()
        total, batches = 0.0, 0
        for batch in batches_of(pairs, options.rows, chance):
            share = (time.monotonic() - began) / (60 * options.minutes)
            if share >= 1:
                break
            optimizer.param_groups[0]["lr"] = options.rate * one_cycle(share)
            letters, given, wanted = tensors_of(batch, vocabulary)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
                logits = speller(letters, given)
            loss = cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, label_smoothing=options.smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(speller.parameters(), 1.0)
            optimizer.step()
            averaged.update_parameters(speller)
            total += loss.item()
            batches += 1
        phoneme_errors, word_errors = error_rates(pronounce(averaged.module, development, vocabulary), development)
        print(
            f"epoch {epoch} {time.monotonic() - began:.0f} s {batches} batches loss {total / max(1, batches):.4f}"
            f" development PER {phoneme_errors:.4f} WER {word_errors:.4f}",
            flush=True,
        )
        yield averaged.module
        if share >= 1:
            return


def one_cycle(share):
    """Up in a straight line, then down as a cosine."""
    if share < WARM_UP:
        return share / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))


def report(out, vocabulary, development, held_out, options):
    """Measures what was stored, not what was trained: the file is read back first."""
    speller = make_speller(vocabulary, options)
    load(speller, out / "weights.safetensors")
    for title, words in (("development", development), ("held out", held_out)):
        phoneme_errors, word_errors = error_rates(pronounce(speller, words, vocabulary), words)
        print(f"{title}: {len(words)} words, PER {phoneme_errors:.4f}, WER {word_errors:.4f}", flush=True)
    write_json(out / "expected.json", fixture(speller, vocabulary, held_out, options.width))


def load(speller, file):
    stored = load_file(file)
    speller.load_state_dict({name: stored[stored_name(name)].float() for name in speller.state_dict()})


def fixture(speller, vocabulary, held_out, width, size=50, with_logits=3):
    """The first words in order of their hash: any order that does not look at the answers would do."""
    words = sorted(held_out, key=lambda word: (fnv1a(word), word))
    said = pronounce(speller, words[: 4 * size], vocabulary)
    clear = []
    for word in words[: 4 * size]:
        found, lead = search(speller, word, vocabulary, width)
        if said[word][1] > FIXTURE_GAP and lead > FIXTURE_GAP:
            clear.append({"word": word, "phonemes": said[word][0], "searched": found})
    return {
        "width": width,
        "words": clear[:size],
        "firstLogits": [
            {"word": one["word"], "logits": first_logits(speller, one["word"], vocabulary)} for one in clear[:with_logits]
        ],
    }


@torch.no_grad()
def first_logits(speller, word, vocabulary):
    letters = torch.tensor([[vocabulary["input"].index(letter)] for letter in word])
    speller.eval()
    return speller(letters, torch.tensor([[vocabulary["start"]]])).flatten().tolist()


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
