"""The paper's claim on compression, on 16 languages: how much shorter other vocabularies make text than Pythia's.

NTREX, 1,997 line-parallel sentences of news in each language, each encoded alone, without line end and special
tokens. The paper (TokAlign++, arXiv 2605.13429) prints bytes per token of these vocabularies for two languages only,
of which NTREX has Urdu (Table 8), and changes of length by language only for Gemma (Table 1), on CulturaX. Gemma's
vocabulary is not in the material; its column is there for the order of the languages.

    VOCABALIGN_MATERIAL=… python benchmarks/compression_ntrex.py
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vocabalign.text.compression import Compression, measure_compression
from vocabalign.text.tokenizers import load_vocabulary

SOURCE = "pythia-neox"
TARGETS = {"qwen1.5": "Qwen", "llama3": "LLaMA-3", "llama2": "LLaMA-2"}
LANGUAGES = ("en", "de", "ar", "ja", "zh", "bn", "ko", "th", "uk", "vi", "ta", "te", "ur", "hi", "ru", "tr")
# Table 8: bytes per token; Table 1: change of length in per cent from Pythia to Gemma.
PAPER_BYTES_PER_TOKEN = {"ur": {"pythia-neox": 1.95, "qwen1.5": 2.72, "llama3": 2.85, "llama2": 1.73}}
PAPER_TO_GEMMA = {
    "ar": -47.9, "de": -27.9, "en": -2.1, "ja": -46.8, "zh": -47.1, "bn": -58.5, "ko": -52.0, "th": -61.1,
    "uk": -43.1, "vi": -53.3, "ta": -65.3, "te": -59.6, "ur": -56.8,
}  # fmt: skip


def change(target: float, source: float) -> str:
    """Change of length in per cent, from bytes per token."""
    return f"{100 * (source / target - 1):+.1f} %"


def main() -> None:
    """Print the table, ours and the paper's where it has one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", nargs="+", default=LANGUAGES)
    options = parser.parse_args()
    material = Path(os.environ["VOCABALIGN_MATERIAL"])
    vocabularies = {name: load_vocabulary(material / "tokenizers" / name) for name in (SOURCE, *TARGETS)}
    header = ["language", "bytes per token: Pythia", *TARGETS.values()]
    header += [f"length: → {name}" for name in TARGETS.values()] + ["paper, → Gemma"]
    print(f"| {' | '.join(header)} |\n|---|{'---:|' * (len(header) - 1)}")
    changes: dict[str, list[float]] = {name: [] for name in TARGETS}
    for language in options.languages:
        lines = (material / "corpora/ntrex" / f"{language}.txt").read_text(encoding="utf-8").split("\n")
        lines = [line.rstrip("\r") for line in lines if line.strip()]
        measured: dict[str, Compression] = {
            name: measure_compression(vocabulary, lines) for name, vocabulary in vocabularies.items()
        }
        rates = {name: compression.bytes_per_token for name, compression in measured.items()}
        for name in TARGETS:
            changes[name].append(measured[name].tokens / measured[SOURCE].tokens - 1)
        gemma = f"{PAPER_TO_GEMMA[language]:+.1f} %" if language in PAPER_TO_GEMMA else "not printed"
        _print_row(language, rates, gemma)
        if language in PAPER_BYTES_PER_TOKEN:
            _print_row(f"{language}, paper", PAPER_BYTES_PER_TOKEN[language], "")
    means = [f"{100 * sum(values) / len(values):+.1f} %" for values in changes.values()]
    known = [PAPER_TO_GEMMA[language] for language in options.languages if language in PAPER_TO_GEMMA]
    gemma = f"{sum(known) / len(known):+.1f} % ({len(known)} languages)" if known else ""
    print(f"| mean of {len(options.languages)} | {'| ' * (1 + len(TARGETS))}{' | '.join(means)} | {gemma} |")


def _print_row(label: str, rates: dict[str, float], gemma: str) -> None:
    cells = [f"{rates[name]:.2f}" for name in (SOURCE, *TARGETS)]
    cells += [change(rates[name], rates[SOURCE]) for name in TARGETS]
    print(f"| {label} | {' | '.join(cells)} | {gemma} |")


if __name__ == "__main__":
    main()
