"""Reads WordNet's glosses and says which of them are held out."""

from pathlib import Path

FILES = ["data.adj", "data.adv", "data.noun", "data.verb"]
HELD_OUT_ONE_IN = 20


def read_glosses(folder):
    """Returns the distinct glosses in the order of the files: the text after the bar of every synset."""
    glosses = {}
    for name in FILES:
        for line in (Path(folder) / name).read_text(encoding="ascii").splitlines():
            # The licence at the head of each file is indented; synsets start at the margin.
            if line.startswith(" "):
                continue
            gloss = line.partition("|")[2].strip()
            if gloss:
                glosses[gloss] = None
    return list(glosses)


def split(glosses):
    """Returns (training, held_out). The rule needs only the text, so any language can repeat it."""
    training, held_out = [], []
    for gloss in glosses:
        (training if fnv1a(gloss) % HELD_OUT_ONE_IN else held_out).append(gloss)
    return training, held_out


def fnv1a(text):
    """FNV-1a, 32 bits, over the UTF-8 bytes of the text."""
    code = 0x811C9DC5
    for byte in text.encode("utf-8"):
        code = ((code ^ byte) * 0x01000193) & 0xFFFFFFFF
    return code
