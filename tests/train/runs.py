"""Short training runs on tiny models, and what is compared of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import make_byte_level_tokenizer
from vocabalign.stages import DistillConfig, FinetuneConfig, TrainingOptions
from vocabalign.train import distill, finetune
from vocabalign.train.trainer import StageTrainer

SMALL = dict(steps=6, batch_size=4, context=32, checkpoint_every=2)


def finetuned(model: Path, corpus: Path, out: Path, training: dict | None = None, **more) -> Path:
    options = TrainingOptions(**{**SMALL, **(training or {})})
    return finetune.run(FinetuneConfig(model=str(model), corpus=[str(corpus)], out=out, training=options, **more))


def distilled(student: Path, teacher, corpus: Path, out: Path, training: dict | None = None, **more) -> Path:
    options = TrainingOptions(**{**SMALL, **(training or {})})
    return distill.run(
        DistillConfig(student=str(student), teacher=teacher, corpus=[str(corpus)], out=out, training=options, **more)
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Interrupted(Exception):
    """An error that nobody expects."""


@contextmanager
def interrupted_at(
    call: int, owner: type = StageTrainer, name: str = "compute_loss", error: type[BaseException] = KeyboardInterrupt
) -> Iterator[None]:
    """Until this call (from 1) of a method all goes well, and the call must come."""
    original, calls = getattr(owner, name), 0

    def counted(self, *args, **keywords):
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return original(self, *args, **keywords)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(error):
        patch.setattr(owner, name, counted)
        yield


def make_neox(folder: Path, dtype=torch.float32) -> Path:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(3)
    make_byte_level_tokenizer(folder)
    config = GPTNeoXConfig(
        vocab_size=416,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPTNeoXForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder
