"""How many tokens a transplanted model needs to be as good as before: our recipe, the paper's, one factor at a time.

python benchmarks/finetune_quality.py --pairs stories260K:stories3M --seeds 0 1 2
python benchmarks/finetune_quality.py --pairs stories260K:stories3M --ways ablations
python benchmarks/finetune_quality.py --print

Every model is an artefact in ``--folder``: interrupt it at any time, the same command goes on where it stopped. Text is
the material's (VOCABALIGN_MATERIAL): ``tinystories`` and ``tinystories-sampled`` to train on, held-out stories for
scores only; for the demo model the documentation of the standard library, which it was made of. The baseline has FVT
rows, a head of its own, the paper's two stages of equal length with a cosine each, cross-entropy, and the best of
four learning rates, chosen on a fifth of the budget.
``source-continued`` is the untouched model trained on for the same bytes. Curves are scores in windows without overlap
during training; the last column is by the scorer of ``vocabalign evaluate``, whose figures also make the paired
intervals; ``--scorer`` gives another scorer's beside them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from finetune_recipes import (
    ABLATIONS,
    BASELINE_RATES,
    CONTEXT,
    LARGER,
    LARGER_BASELINE_RATES,
    OURS,
    PAPERS,
    RATES,
    RATES_TOKENS,
    RIVALS,
    SHORT,
    TRIAL,
    TRIAL_TOKENS,
    merged,
    two_stages,
)
from finetune_tables import curve, show_pair

from vocabalign.config import make_config
from vocabalign.stages import STAGES

PLACES = {"stories260K": "models/stories260K-hf", "stories3M": "models/stories3M-hf", "llama2": "tokenizers/llama2"}
PLACES |= {"tinystories-bpe_16384": "tokenizers/tinystories-bpe_16384"}
DEMO = {"source": "demo:source", "teacher": "demo:teacher"}
DEMO_HELDOUT = 400
PAIRS = ("stories260K:stories3M", "stories3M:llama2", "stories3M:tinystories-bpe_16384", "source:teacher")


class Pair:
    """Models of a source and a target tokenizer, made when asked for.

    Args:
        name: ``SOURCE:TARGET``.
        folder: of all results.
        tokens: budget of the recipes; the baseline has ``baseline_tokens``.
    """

    def __init__(self, name: str, folder: Path, tokens: int, baseline_tokens: int) -> None:
        source, target = name.split(":")
        self.name, self.folder = name, folder / name.replace(":", "-")
        self.tokens, self.baseline_tokens = tokens, baseline_tokens
        self.source, self.target = place(source), place(target)
        self.train, self.heldout = corpora(source, folder)
        config = json.loads((folder_of(self.source) / "config.json").read_text())
        self.tied = bool(config.get("tie_word_embeddings"))
        self.recipe = merged(OURS, LARGER.get(source, {}))
        self.baseline_rates = LARGER_BASELINE_RATES.get(source, BASELINE_RATES)

    def start(self, name: str) -> Path:
        """A transplant: ``ours``, ``tied``, or the rows of a rival."""
        fields: dict[str, Any] = {"corpus": [self.train[0]], "untie": self.tied and name != "tied"}
        if name in RIVALS:
            rows = dict(zip(("input_rows", "head_rows"), RIVALS[name], strict=True))
            fields = {**rows, "calibrate_head": False, "untie": self.tied}
        return self.run("transplant", f"start-{name}", source=self.source, target=self.target, **fields)

    def finetune(self, name: str, model: str, tokens: int, seed: int, recipe: dict[str, Any]) -> Path:
        """A model trained by a recipe for so many tokens."""
        training = {"context": CONTEXT, "checkpoint_every": 100, **recipe.get("training", {})}
        training["steps"] = max(1, round(tokens / (training["batch_size"] * training["context"])))
        fields = {**recipe, "training": training, "corpus": self.train, "heldout": self.heldout, "seed": seed}
        fields.pop("model", None)
        return self.run("finetune", f"{name}-seed{seed}", model=model, **fields)

    def run(self, stage: str, name: str, **fields: Any) -> Path:
        """An artefact, made unless it is there."""
        out = self.folder / name
        if not out.exists():
            print(f"{self.name}: {name}", flush=True)
            values = {"out": out, "device": "cpu", "dtype": "float32", **fields}
            STAGES[stage].run(make_config(STAGES[stage].config_class, values))
        return out

    # ------------------------------------------------------------------ ways

    def baseline(self, seed: int) -> Path:
        """The paper's way with its best rate."""
        model = str(self.start("fvt"))
        scores = {}
        for rate in self.baseline_rates:
            short = self.finetune(f"baseline-{rate:g}", model, self.baseline_tokens // 5, 0, two_stages(rate))
            scores[rate] = curve(short)[-1][1]
        best = min(scores, key=lambda rate: scores[rate])
        return self.finetune("baseline", model, self.baseline_tokens, seed, two_stages(best))

    def ours(self, seed: int) -> Path:
        """Our recipe."""
        return self.finetune("ours", str(self.start("ours")), self.tokens, seed, self.recipe)

    def rows_alone(self, seed: int) -> Path:
        """Self-distilled rows, for three minutes."""
        recipe = merged(self.recipe, {"rows_share": 1.0, "training": {"evaluate_every": 100, "decay_share": 0.8}})
        return self.finetune("rows-alone", str(self.start("ours")), 450_000, seed, recipe)

    def source_continued(self, seed: int) -> Path:
        """The untouched model on the same bytes, cross-entropy alone, the better of two rates."""
        tokens = round(self.tokens * self.source_tokens_per_token())
        found = {}
        for rate in (1e-3, 4e-3):
            recipe = merged(
                self.recipe, {"rows_share": 0.0, "learning_rate": rate, "training": {"evaluate_every": 500}}
            )
            found[rate] = self.finetune(f"source-continued-{rate:g}", self.source, tokens, seed, recipe)
        return min(found.values(), key=lambda folder: curve(folder)[-1][1])

    def ablation(self, name: str, tokens: int) -> Path:
        """Our recipe with one factor changed; one seed."""
        recipe = merged(self.recipe, ABLATIONS.get(name, {}))
        start = str(self.start(recipe.get("model", "ours")))
        return self.finetune(f"ablation-{name.replace(' ', '-')}", start, tokens, 0, recipe)

    def trial(self, name: str) -> Path:
        """The paper's schedule with some of our losses."""
        recipe = merged(PAPERS, TRIAL[name])
        start = str(self.start(recipe.get("model", "ours")))
        return self.finetune(f"trial-{name.replace(', ', '-').replace(' ', '-')}", start, TRIAL_TOKENS, 0, recipe)

    def rates(self, name: str) -> Path:
        """What a rate gains in the second stage."""
        short = {"rows_share": 0.0, "training": SHORT}
        recipe = merged(merged(self.recipe, short), RATES[name])
        start = str(self.rows_alone(0))
        return self.finetune(f"rates-{name.replace(', ', '-').replace(' ', '-')}", start, RATES_TOKENS, 5, recipe)

    def source_tokens_per_token(self) -> float:
        """How many tokens the source needs for one of the target's, on the held-out text."""
        from vocabalign.text.corpus import read_texts
        from vocabalign.text.tokenizers import load_vocabulary

        texts = list(read_texts(self.heldout))
        counts = [sum(map(len, load_vocabulary(v).encode_batch(texts))) for v in (self.source, self.target)]
        return counts[0] / counts[1]


def place(name: str) -> str:
    """A model or tokenizer of the material, or of the demo."""
    return DEMO.get(name) or str(Path(os.environ["VOCABALIGN_MATERIAL"]) / PLACES[name])


def folder_of(reference: str) -> Path:
    """Where a model is."""
    from vocabalign.models import resolve

    return resolve(reference)


def corpora(source: str, folder: Path) -> tuple[list[str], list[str]]:
    """Training and held-out text that the source knows."""
    if source in DEMO:
        return documentation_files(folder / "documentation")
    stories = Path(os.environ["VOCABALIGN_MATERIAL"]) / "corpora"
    train = [str(stories / "tinystories" / "train.jsonl"), str(stories / "tinystories-sampled" / "train.jsonl")]
    return train, [str(stories / "tinystories" / "heldout.jsonl")]


def documentation_files(folder: Path) -> tuple[list[str], list[str]]:
    """The documentation of the standard library, of which the demo's source was made, and that of held-out modules."""
    from vocabalign.text.standard_library import documentation, is_heldout

    paths = [folder / "train.jsonl", folder / "heldout.jsonl"]
    if not paths[1].exists():
        folder.mkdir(parents=True, exist_ok=True)
        found: tuple[list[str], list[str]] = ([], [])
        for passage in documentation():
            found[is_heldout(passage.module)].append(json.dumps({"text": passage.text}))
        for path, lines in zip(paths, (found[0], found[1][:DEMO_HELDOUT]), strict=True):
            path.write_text("\n".join(lines) + "\n")
    return [str(paths[0])], [str(paths[1])]


def ways(pair: Pair, chosen: list[str], seeds: list[int], ablation_tokens: int) -> Iterator[Path]:
    """Make what is asked for, the headline first."""
    for seed in seeds:
        for name, way in {
            "ours": pair.ours,
            "baseline": pair.baseline,
            "rows-alone": pair.rows_alone,
            "source-continued": pair.source_continued,
        }.items():
            if name in chosen or "headline" in chosen:
                yield way(seed)
    if "rivals" in chosen or "headline" in chosen:
        for name in RIVALS:
            yield pair.start(name)
    for name in TRIAL if "trial" in chosen else ():
        yield pair.trial(name)
    for name in RATES if "rates" in chosen else ():
        yield pair.rates(name)
    for name in ("ours", *ABLATIONS):
        if "ablations" in chosen or f"ablation-{name}" in chosen:
            yield pair.ablation(name, ablation_tokens)


def main() -> None:
    """Make and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--ways", nargs="+", default=["headline"], help="headline, ablations, trial, rivals, or single ways"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/finetune-quality"))
    parser.add_argument("--tokens", type=int, default=1_024_000, help="budget of our recipe")
    parser.add_argument("--baseline-tokens", type=int, default=2_048_000)
    parser.add_argument("--ablation-tokens", type=int, default=204_800)
    parser.add_argument("--scorer", type=Path, help="a script with read(text) and score(folder, documents), to compare")
    parser.add_argument("--print", action="store_true", dest="only_print", help="only print what is there")
    arguments = parser.parse_args()
    for name in arguments.pairs:
        pair = Pair(name, arguments.folder, arguments.tokens, arguments.baseline_tokens)
        if not arguments.only_print:
            for _ in ways(pair, arguments.ways, arguments.seeds, arguments.ablation_tokens):
                pass
        show_pair(name, folder_of(pair.source), pair.folder, pair.heldout, arguments.scorer)


if __name__ == "__main__":
    main()
