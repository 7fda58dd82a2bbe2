"""The recipes that finetune_quality.py compares. Not run by itself."""

from __future__ import annotations

from typing import Any

CONTEXT = 256
BASELINE_RATES = (1e-3, 2.5e-3, 6.4e-3, 1.6e-2)
# A larger source is destroyed by them: of those, the lowest was best by far.
LARGER_BASELINE_RATES = {"stories3M": (6.4e-5, 1.6e-4, 4e-4, 1e-3)}
BASELINE = {"batch_size": 8, "betas": [0.9, 0.999], "evaluate_every": 25}
OURS = {
    "rows_share": 0.1,
    "rows_learning_rate": 6e-3,
    "learning_rate": 4e-3,
    "self_distillation": {"cross_entropy": 0.3},
    "training": {
        "batch_size": 2,
        "optimizer": "muon",
        "betas": [0.9, 0.999],
        "schedule": "linear",
        "final_learning_rate_share": 0.02,
        "evaluate_every": 50,
    },
}
# What a larger source has otherwise.
LARGER: dict[str, dict[str, Any]] = {"stories3M": {"rows_learning_rate": 1e-3, "learning_rate": 2e-4}}
NOTHING = {"enabled": False}
# One factor changed, everything else as in ours.
ABLATIONS: dict[str, dict[str, Any]] = {
    "cross-entropy alone": {"self_distillation": NOTHING},
    "no hidden states": {"self_distillation": {"hidden": 0.0}},
    "no events": {"self_distillation": {"events": 0.0}},
    "no continuations": {"self_distillation": {"continuations": 0.0}},
    "with chunks": {"self_distillation": {"chunks": 1.0}},
    "as much cross-entropy as lessons": {"self_distillation": {"cross_entropy": 1.0}},
    "never fades": {"self_distillation": {"fade": False}},
    "fades from the start on": {"self_distillation": {"fade_from": 1.0}},
    "the source reads two thirds": {"self_distillation": {"share": 0.67}},
    "the source reads half": {"self_distillation": {"share": 0.5}},
    "batches of 8": {"training": {"batch_size": 8, "evaluate_every": 12}},
    "blocks of 128": {"training": {"batch_size": 4, "context": 128}},
    "adamw": {"training": {"optimizer": "adamw"}},
    "cosine": {"training": {"schedule": "cosine"}},
    "warmup-stable-decay": {"training": {"schedule": "warmup-stable-decay", "decay_share": 0.6}},
    "second moments of 20 steps": {"training": {"betas": [0.9, 0.95]}},
    "half the learning rates": {"rows_learning_rate": 3e-3, "learning_rate": 1e-3},
    "rows at three times the rate of the body": {"rows_rate_factor": 3.0},
    "rare rows at lower rates": {"rare_rows_power": 0.5},
    "twice the learning rates": {"rows_learning_rate": 1.2e-2, "learning_rate": 4e-3},
    "rates by range test": {"rows_learning_rate": "auto", "learning_rate": "auto"},
    "stage 1 ends itself": {"rows_share": "auto"},
    "no stage 1": {"rows_share": 0.0},
    "three tenths for stage 1": {"rows_share": 0.3},
    "half for stage 1": {"rows_share": 0.5},
    "FVT start": {"model": "fvt"},
    "tied start": {"model": "tied"},
}
# 200 steps of 16 x 128 tokens by the paper's schedule at one rate: what each loss adds before anything is tuned.
TRIAL_BATCH = {"batch_size": 16, "context": 128}
PAPERS = {"rows_share": 0.5, "rows_learning_rate": 5e-3, "learning_rate": 5e-3, "training": BASELINE | TRIAL_BATCH}
TRIAL_TOKENS = 409_600
TRIAL: dict[str, dict[str, Any]] = {
    "FVT, cross-entropy": {"self_distillation": NOTHING, "model": "fvt"},
    "cross-entropy": {"self_distillation": NOTHING},
    "hidden, events": {"self_distillation": {"continuations": 0.0}},
    "hidden, events, continuations": {},
    "hidden, events, batches of 4": {
        "self_distillation": {"continuations": 0.0},
        "rows_learning_rate": 3e-3,
        "learning_rate": 3e-3,
        "training": {"batch_size": 4, "evaluate_every": 100},
    },
}
# 100 steps of everything from the rows that were trained alone, at several rates.
RATES_TOKENS = 51_200
SHORT = {"optimizer": "adamw", "betas": [0.9, 0.95], "schedule": "cosine", "final_learning_rate_share": 0.1}
SHORT |= {"batch_size": 4, "context": 128}
RATES: dict[str, dict[str, Any]] = {
    "both 2.5e-3": {"learning_rate": 2.5e-3},
    "both 8e-4": {"learning_rate": 8e-4},
    "both 3e-4": {"learning_rate": 3e-4},
    "body 8e-4, rows 2.5e-3": {"learning_rate": 8e-4, "rows_rate_factor": 3.125},
}
RIVALS = {"transplant-vocab": ("last", "decay"), "fvt": ("fvt", "fvt"), "mean": ("mean", "mean")}


def two_stages(rate: float) -> dict[str, Any]:
    """The paper's schedule with cross-entropy alone."""
    return {"rows_share": 0.5, "rows_learning_rate": rate, "learning_rate": rate, "training": BASELINE} | {
        "self_distillation": NOTHING
    }


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` laid over ``base``, block by block."""
    blocks = {key: merged(base.get(key, {}), value) for key, value in changes.items() if isinstance(value, dict)}
    return {**base, **changes, **blocks}
