"""Trains the speller and writes weights, vocabulary and fixture.

    python train.py --dictionary index.js --out .
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from measure import error_rates, pronounce
from network import Speller, stored_name
from pronunciations import LETTERS, fnv1a, read_pronunciations, split

IGNORED = -100
# Another kernel rounds differently; a fixture word must not hang on the last bits.
FIXTURE_GAP = 0.01


def main():
    options = read_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    training, development, held_out = split(read_pronunciations(options.dictionary))
    vocabulary = make_vocabulary(training)
    speller = Speller(len(vocabulary["input"]), len(vocabulary["output"]), options.embedding, options.hidden, options.dropout)
    train(speller, pairs_of(training, vocabulary), vocabulary, development, options)
    out = Path(options.out)
    weights = {stored_name(name): tensor.half().contiguous() for name, tensor in speller.state_dict().items()}
    save_file(weights, out / "weights.safetensors")
    write_json(out / "vocabulary.json", vocabulary)
    report(out, vocabulary, development, held_out, options)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dictionary", required=True, help="index.js of cmu-pronouncing-dictionary")
    parser.add_argument("--out", required=True, help="folder for the weights, vocabulary and fixture")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--smoothing", type=float, default=0.1, help="label smoothing")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--rows", type=int, default=128, help="pairs in a batch")
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


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
    chance = random.Random(options.seed)
    optimizer = torch.optim.AdamW(speller.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    epochs = [batches_of(pairs, options.rows, chance) for _ in range(options.epochs)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=sum(map(len, epochs)), pct_start=0.1, cycle_momentum=False
    )
    began = time.monotonic()
    for epoch, batches in enumerate(epochs, 1):
        speller.train()
        total = 0.0
        for batch in batches:
            letters, given, wanted = tensors_of(batch, vocabulary)
            logits = speller(letters, given)
            loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, label_smoothing=options.smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(speller.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        phoneme_errors, word_errors = error_rates(pronounce(speller, development, vocabulary), development)
        print(
            f"epoch {epoch} {time.monotonic() - began:.0f} s loss {total / len(batches):.4f}"
            f" development PER {phoneme_errors:.4f} WER {word_errors:.4f}",
            flush=True,
        )


def report(out, vocabulary, development, held_out, options):
    """Measures what was stored, not what was trained: the file is read back first."""
    stored = load_file(out / "weights.safetensors")
    speller = Speller(len(vocabulary["input"]), len(vocabulary["output"]), options.embedding, options.hidden)
    speller.load_state_dict({name: stored[stored_name(name)].float() for name in speller.state_dict()})
    for title, words in (("development", development), ("held out", held_out)):
        phoneme_errors, word_errors = error_rates(pronounce(speller, words, vocabulary), words)
        print(f"{title}: {len(words)} words, PER {phoneme_errors:.4f}, WER {word_errors:.4f}", flush=True)
    write_json(out / "expected.json", fixture(speller, vocabulary, held_out))


def fixture(speller, vocabulary, held_out, size=50, with_logits=3):
    """The first words in order of their hash: any order that does not look at the answers would do."""
    words = sorted(held_out, key=lambda word: (fnv1a(word), word))
    said = pronounce(speller, words, vocabulary)
    clear = [word for word in words if said[word][1] > FIXTURE_GAP][:size]
    return {
        "words": [{"word": word, "phonemes": said[word][0]} for word in clear],
        "firstLogits": [{"word": word, "logits": first_logits(speller, word, vocabulary)} for word in clear[:with_logits]],
    }


@torch.no_grad()
def first_logits(speller, word, vocabulary):
    letters = torch.tensor([[vocabulary["input"].index(letter)] for letter in word])
    return speller(letters, torch.tensor([[vocabulary["start"]]])).flatten().tolist()


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
