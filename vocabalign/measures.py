"""Measures of models that are taken where they were asked for: what a table of them is called and shows."""

from __future__ import annotations

MEASURES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "cost": (
        ("tokens_relative", "tokens for the same text", ".3f"),
        ("bytes_per_1000_tokens_relative", "bytes for 1,000 tokens", ".3f"),
        ("cost_relative", "cost", ".3f"),
        ("cost_per_megabyte", "cost per MB", ".4g"),
        ("normalised_perplexity", "normalised perplexity", ".3f"),
    ),
    "samples": (
        ("generation_bytes_per_second", "bytes/s", ",.0f"),
        ("generation_repetition_share", "repeated", ".1%"),
        ("generation_invalid_bytes", "bytes that are no UTF-8", ",d"),
        ("generation_unknown_tokens", "tokens without text", ",d"),
    ),
    "beside the teacher": (
        ("teacher_top1_agreement", "same first choice", ".1%"),
        ("teacher_kl_nats_per_position", "KL in nats", ".4f"),
        ("teacher_kl_bits_per_byte", "KL in bits/byte", ".4f"),
        ("teacher_positions_share", "of the tokens", ".1%"),
    ),
    "as a draft": (
        ("draft_acceptance_rate", "accepted", ".1%"),
        ("draft_tokens_per_teacher_pass", "tokens a pass", ".2f"),
        ("draft_speed_up", "speed-up here", ".2f"),
        ("draft_cost_ratio", "to write one", ".2f"),
        ("draft_checking_cost_ratio", "to check one", ".2f"),
        ("draft_best_speed_up_by_parameters", "speed-up by parameters", ".2f"),
    ),
    "tasks": (
        ("task_score_mean", "mean score", ".4f"),
        ("task_retention", "retention", ".1%"),
        ("task_chance_corrected_retention", "corrected for chance", ".1%"),
    ),
}
"""Title -> (key in metrics.json, heading, format); ratios are to the first model."""

SIDE_BY_SIDE = ("cost", "samples")
"""Tables that say something only where there are several models."""
