"""What each part of our rows is worth: bits per byte right after a transplant, one factor at a time, by token class.

python benchmarks/row_ablation.py --pair stories260K:tlm-833K
python benchmarks/row_ablation.py --pair demo:llama2 --text corpora/math/gsm8k_test.jsonl --only "auto" "FVT"

The pair and the text are the material's (VOCABALIGN_MATERIAL); ``--text`` scores on other text than the pair's own
held-out documents. Bits of each class are divided by the bytes of the whole text, so that the classes add up.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from row_cells import MATERIAL, Pair
from row_slices import texts_of

from vocabalign.config import make_config
from vocabalign.evaluation.bits_per_byte import cut_windows, start_token
from vocabalign.models import context_length, load_model, resolve
from vocabalign.stages import STAGES, TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary

_OTHER = {"corpus": "wikitext"}
ABLATION: dict[str, dict[str, object]] = {
    "auto": {},
    "auto, tied": {"untie": False},
    "not fitted": {"fit_rows": False},
    "neither fitted nor counted": {"fit_rows": False, "calibrate_head": False},
    "last input, fitted head": {"input_rows": "last"},
    "decaying input": {"input_rows": "decay"},
    "decaying head": {"head_rows": "decay"},
    "counts of wikitext-2": _OTHER,
    "counts of wikitext-2, not fitted": {**_OTHER, "fit_rows": False},
    "no text": {"corpus": "none"},
    "FVT": {"input_rows": "fvt", "head_rows": "fvt", "fit_rows": False, "calibrate_head": False},
}
# The first that fits a token's text; a token without whole characters is a byte token.
CLASSES = {
    "digits": r"\s*\d+",
    "newlines": r".*\n.*",
    "runs of spaces": r"[ \t]{2,}.*",
    "other scripts": r".*[^\x00-\x7f].*",
    "word-initial": r" [A-Za-z'].*",
    "continuation": r"[A-Za-z'].*",
    "punctuation": r"\s?[^\sA-Za-z0-9].*",
    "single space": r"\s",
}


def main() -> None:
    """Print one line a variant: the score, the gap, the seconds, and bits by class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="stories260K:tlm-833K")
    parser.add_argument("--documents", type=int, default=25)
    parser.add_argument("--text", help="score on this text, a path within the material")
    parser.add_argument("--only", nargs="+", choices=list(ABLATION), default=list(ABLATION))
    arguments = parser.parse_args()
    pair = Pair(arguments.pair)
    with tempfile.TemporaryDirectory(prefix="vocabalign-ablation-") as temporary:
        folder = Path(temporary)
        text = MATERIAL / arguments.text if arguments.text else pair.text("heldout")
        documents = [text for text, _ in zip(texts_of(str(text)), range(arguments.documents), strict=False)]
        texts = {"wikitext": [str(MATERIAL / "corpora/wikitext-2/valid.txt")], "none": []}
        untouched = show("source", pair.source, documents, 0.0, 0.0)
        for variant in arguments.only:
            fields = {"untie": pair.tied, **ABLATION[variant]}
            fields["corpus"] = texts.get(str(fields.get("corpus")), [pair.text("train")])
            values = {"source": pair.source, "target": pair.target, **fields}
            values |= {"out": folder / "model", "overwrite": True}
            started = time.monotonic()
            out = STAGES["transplant"].run(make_config(TransplantConfig, values))
            show(variant, str(out), documents, untouched, time.monotonic() - started)


def show(variant: str, model: str, documents: list[str], untouched: float, seconds: float) -> float:
    """Score one model and print its line."""
    by_class = bits_by_class(model, documents)
    total = sum(by_class.values())
    parts = "  ".join(f"{name} {bits:.3f}" for name, bits in sorted(by_class.items(), key=lambda item: -item[1]))
    fitted = ""
    manifest = Path(model) / "manifest.json"
    if manifest.is_file():
        found = json.loads(manifest.read_text())["metrics"].get("fitted")
        fitted = f"  kept: {[part for part in ('inputs', 'head') if found[part]]}" if found else ""
    print(f"{variant:<34}{total:8.4f}  gap {total - untouched:7.4f}  {seconds:6.1f} s{fitted}\n    {parts}", flush=True)
    return total


@torch.no_grad()
def bits_by_class(folder: str, documents: list[str]) -> dict[str, float]:
    """Class of the token -> its bits, divided by the bytes of all documents; each document read alone."""
    model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    vocabulary = load_vocabulary(resolve(folder))
    window = min(512, context_length(model) or 512)
    bits: dict[str, float] = defaultdict(float)
    for number, ids in enumerate(vocabulary.encode_batch(documents)):
        ids = [start_token(vocabulary.roles), *ids]
        for piece in cut_windows(number, len(ids), window):
            logits = model(input_ids=torch.tensor([ids[piece.start : piece.end]])).logits[0].float()
            places = torch.arange(piece.first - piece.start, piece.end - piece.start)
            followers = torch.tensor(ids[piece.first : piece.end])
            nats = torch.nn.functional.cross_entropy(logits[places - 1], followers, reduction="none")
            for token, value in zip(followers.tolist(), nats.tolist(), strict=True):
                bits[token_class(vocabulary, token)] += value / math.log(2)
    size = sum(len(text.encode()) for text in documents)
    return {name: value / size for name, value in bits.items()}


def token_class(vocabulary: Vocabulary, token: int) -> str:
    """The name in ``CLASSES``, or "special", "bytes"."""
    data = vocabulary.token_bytes[token]
    if data is None:
        return "special"
    if token in vocabulary.byte_ids:
        return "bytes"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "bytes"
    return next((name for name, form in CLASSES.items() if re.fullmatch(form, text, re.DOTALL)), "other")


if __name__ == "__main__":
    main()
