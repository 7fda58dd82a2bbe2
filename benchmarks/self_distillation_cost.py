"""What self-distillation costs: a step of it beside one of cross-entropy and one forward pass of the source.

python benchmarks/self_distillation_cost.py [--source stories260K-hf] [--target stories3M-hf] [--batch-size 4]
    [--context 128]

One thread, processor time, the least of some rounds; forward and backward, without the optimizer, which is the same.
The source is run once for a batch, to what its head reads; what is above that are losses, its logits where they are
needed among them. A forward pass as transformers has it ends with the logits of all places: both are units here.
``share`` is that of the sequences which the source reads.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from vocabalign.models import context_length, load_model
from vocabalign.stages import SelfDistillationOptions, TransplantConfig
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.head import hidden_states, read_head
from vocabalign.train.objectives import cross_entropy
from vocabalign.train.self_distillation import LEARNED, Lessons, SelfDistillation
from vocabalign.train.source_side import SourceSide

SHARES = (1.0, 0.75, 0.5)


def least_seconds(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Processor time of one call of each, the least of some rounds: what else runs on the machine only adds to it."""
    found = {name: math.inf for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            started = time.process_time()
            function()
            if number:  # the first call warms up
                found[name] = min(found[name], time.process_time() - started)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="stories260K-hf")
    parser.add_argument("--target", default="models/stories3M-hf")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    material = Path(os.environ["VOCABALIGN_MATERIAL"])
    source_folder = material / "models" / arguments.source
    with tempfile.TemporaryDirectory(prefix="vocabalign-benchmark-") as temporary:
        folder = Path(temporary)
        model_folder = transplant(source_folder, material / arguments.target, folder)
        vocabularies = [load_vocabulary(path) for path in (model_folder, source_folder)]
        model, source = (
            load_model(path, dtype=torch.float32, device=torch.device("cpu")) for path in (model_folder, source_folder)
        )
        source.requires_grad_(False)
        texts = list(read_texts([str(material / "corpora" / "tinystories" / "heldout.jsonl")]))
        mine, theirs = (tokenize(texts, v, folder, str(number)) for number, v in enumerate(vocabularies))
        lessons = Lessons(*vocabularies, read_head(model).num_rows)
        limit, context = context_length(source), arguments.context
        numbers, items = list(range(arguments.batch_size)), float(arguments.batch_size * arguments.context)
        trie = lessons.continuations

        def read_by_source(share: float) -> Blocks:
            side = SourceSide(
                mine, vocabularies[0], theirs, vocabularies[1], context, limit, continuations=trie, share=share
            )
            return Blocks(mine, context, 0, extend=side)

        blocks = read_by_source(1.0)
        batch = blocks.__getitems__(numbers)

        def step(name: str | None, batch: dict[str, torch.Tensor] = batch) -> Callable[[], object]:
            chosen = {key: float(name in (None, key)) for key in LEARNED if key != "chunks"}
            objective = SelfDistillation(source, lessons, SelfDistillationOptions(**chosen, fade=name is None))
            return lambda: objective(model, batch, items)["loss"].backward()

        def forward() -> object:
            with torch.no_grad():
                return hidden_states(source, batch["source_ids"], batch["source_positions"])

        def forward_with_logits() -> object:
            with torch.no_grad():
                positions = batch["source_positions"]
                return source(input_ids=batch["source_ids"], position_ids=positions, use_cache=False).logits

        steps: dict[str, Callable[[], object]] = {
            "the source's forward pass": forward,
            "the same with its logits": forward_with_logits,
            "a step of cross-entropy": lambda: cross_entropy(model, batch, items)["loss"].backward(),
            **{f"a step with {key}": step(key) for key in ("hidden", "events", "continuations")},
            "making the batch": lambda: blocks.__getitems__(numbers),
        }
        for share in SHARES:
            steps[f"all three, share {share:g}"] = step(None, read_by_source(share).__getitems__(numbers))
        rows = least_seconds(steps, arguments.rounds)
    alone, once = rows["a step of cross-entropy"], rows["the source's forward pass"]
    with_logits = rows["the same with its logits"]
    print(f"{arguments.source} -> {Path(arguments.target).name}, {int(items):,} tokens a step")
    for name, seconds in rows.items():
        print(f"{name:<28}{1000 * seconds:8.1f} ms  {seconds / alone:5.2f} of cross-entropy")
    for share in SHARES:
        above = rows[f"all three, share {share:g}"] - alone
        units = f"{above / once:.2f} of the source's forward pass, {above / with_logits:.2f} of one with its logits"
        print(f"share {share:g}: above cross-entropy {units}")


def transplant(source: Path, target: Path, folder: Path) -> Path:
    """The source with the target's vocabulary and a head of its own."""
    from vocabalign.stages import STAGES

    config = TransplantConfig(source=str(source), target=str(target), untie=True, out=folder / "transplanted")
    return STAGES["transplant"].run(config)


if __name__ == "__main__":
    main()
