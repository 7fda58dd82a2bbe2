"""A draft beside its teacher, and beside the same teacher made large: what is accepted, and the time it saves.

The large teacher is the small one with zeros added to its feed-forward layers: the same text, the arithmetic of a
model many times the size.

python benchmarks/evaluation_draft.py --teacher DIR --draft DIR --prompt TEXT [--widen 80] [--draft-tokens 2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import PreTrainedModel

from vocabalign.evaluation.drafting import DraftTrial
from vocabalign.evaluation.options import Place, Subject
from vocabalign.models import load_model, resolve
from vocabalign.text.tokenizers import load_vocabulary

PLACE = Place(torch.device("cpu"), torch.float32)


def widen(model: PreTrainedModel, times: int) -> None:
    """Make every gated feed-forward layer this many times as wide, without changing what it computes."""
    with torch.no_grad():
        for module in model.modules():
            if not hasattr(module, "gate_proj"):
                continue
            for name, axis in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
                linear = getattr(module, name)
                zeros = torch.zeros_like(linear.weight)
                linear.weight = torch.nn.Parameter(torch.cat([linear.weight, *[zeros] * (times - 1)], dim=axis))


def main() -> None:
    """Print a line for each size of the teacher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True, help="model folder with gated feed-forward layers (Llama and kin)")
    parser.add_argument("--draft", required=True, help="model folder with the same vocabulary")
    parser.add_argument("--prompt", action="append", required=True, help="may repeat")
    parser.add_argument("--widen", type=int, default=80)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--draft-tokens", type=int, default=2)
    arguments = parser.parse_args()
    folder = Path(resolve(arguments.draft))
    draft = load_model(folder, dtype=PLACE.dtype, device=PLACE.device)
    subject = Subject(folder.name, folder, draft, load_vocabulary(folder), [])
    trial = DraftTrial(arguments.teacher, arguments.prompt, PLACE, arguments.tokens, arguments.draft_tokens)
    for times in (1, arguments.widen):
        widen(trial.model, times)
        record = trial(subject)
        size = sum(parameter.numel() for parameter in trial.model.parameters())
        print(
            f"teacher of {size / 1e6:,.1f} M parameters: {record['draft_acceptance_rate']:.1%} of drafts of "
            f"{record['draft_tokens']} accepted, {record['draft_tokens_per_teacher_pass']:.2f} tokens a pass, "
            f"{record['draft_speed_up']:.2f} times the speed (a drafted token costs "
            f"{record['draft_cost_ratio']:.2f} to write, {record['draft_checking_cost_ratio']:.2f} to check; the same "
            f"text in {record['draft_same_text_share']:.0%})",
            flush=True,
        )


if __name__ == "__main__":
    main()
