"""Writes the tokenizers that the codecs are tested with, and what the Rust library makes of some texts.

    pip install tokenizers && python make.py

Each is trained on the sentences below and is small, but has all the parts of the family it stands for: GPT-2's bytes,
BERT's word pieces, T5's unigrams and Llama's characters with bytes for what is unknown. Training breaks ties by chance,
so all files are written together.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.decoders import DecodeStream

FOLDER = Path(__file__).parent

CORPUS = [
    "The cell takes a row, the row takes a slot, and the slot keeps the state.",
    "A request joins the batch between two steps and leaves it between two steps.",
    "What stands before the recurrent cell and what stands behind it runs step by step.",
    "Größere Zellen warten nicht; kleinere Zellen warten auch nicht.",
    "la cellule garde l'état, l'état reste où il est",
] * 4

TEXTS = [
    "the slot keeps the row",
    "The Cell waits,  and the batch leaves!",
    "état où größere 東京 𝄞 🙂 naïve",
    " leading and trailing ",
    "don't stop: 12,345.67 cells/s\nnext\tline",
    "",
]


def main():
    expected = {}
    for name, make in TOKENIZERS.items():
        tokenizer = make()
        # Settings that say nothing about the file, and differ between versions of the library.
        saved = {**json.loads(tokenizer.to_str()), "truncation": None, "padding": None}
        (FOLDER / f"{name}.json").write_text(json.dumps(saved, ensure_ascii=False, separators=(",", ":")) + "\n")
        expected[name] = [cases(tokenizer, text) for text in TEXTS]
    (FOLDER / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


def cases(tokenizer, text):
    ids = tokenizer.encode(text).ids
    stream = DecodeStream(skip_special_tokens=True)
    return {
        "text": text,
        "ids": ids,
        "plainIds": tokenizer.encode(text, add_special_tokens=False).ids,
        "decoded": tokenizer.decode(ids),
        "withSpecial": tokenizer.decode(ids, skip_special_tokens=False),
        "pieces": [stream.step(tokenizer, token) or "" for token in ids],
    }


def byte_level_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=340, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "</s>"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=140, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def byte_fallback_bpe():
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # The bytes must be tokens, but not special ones: those would be left out of the text.
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False)
    )
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] in ("<unk>", "<s>")]
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


TOKENIZERS = {
    "byte-level-bpe": byte_level_bpe,
    "word-piece": word_piece,
    "unigram": unigram,
    "byte-fallback-bpe": byte_fallback_bpe,
}

if __name__ == "__main__":
    main()
