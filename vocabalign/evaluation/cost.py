"""What a vocabulary means for the bill: models are priced by the token, text is written in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vocabalign.errors import ConfigError

Price = float | Mapping[str, float] | None


def check_prices(price: Price, names: Sequence[str]) -> None:
    """Refuse prices that cannot be used.

    Raises:
        ConfigError: a price for a model that is not measured, or one that is not above 0.
    """
    prices = price if isinstance(price, Mapping) else {} if price is None else {names[0]: price}
    for name, value in prices.items():
        if name not in names:
            raise ConfigError(
                f"There is a price for '{name}', which is not measured; the models are {', '.join(names)}."
            )
        if not value > 0:
            raise ConfigError(f"The price of '{name}' is {value}: expected a number above 0, for a million tokens.")


def add_costs(rows: Sequence[dict[str, Any]], price: Price) -> None:
    """Tokens, speed and cost of each model for the same text, relative to the first model.

    Args:
        rows: records with name, tokens, bytes_per_token and, where it was measured, generation_bytes_per_second.
        price: of a million tokens, in any currency: one for all models, by name (those without one cost as much as
            the first), or None, where only ratios are told.
    """
    first = rows[0]
    for row in rows:
        row["bytes_per_1000_tokens"] = 1000 * row["bytes_per_token"]
        row["bytes_per_1000_tokens_relative"] = row["bytes_per_token"] / first["bytes_per_token"]
        row["tokens_relative"] = row["tokens"] / first["tokens"]
        here, there = (_price_of(price, name, first["name"]) for name in (row["name"], first["name"]))
        ratio = here / there if here is not None and there is not None else 1.0
        row["cost_relative"] = row["tokens_relative"] * ratio
        if here is not None:
            # Tokens for a megabyte of text times the price of one.
            row["cost_per_megabyte"] = row["tokens"] / row["bytes"] * here
        speed, reference = (r.get("generation_bytes_per_second") for r in (row, first))
        if speed and reference:
            row["generation_bytes_per_second_relative"] = speed / reference


def _price_of(price: Price, name: str, first: str) -> float | None:
    if isinstance(price, Mapping):
        return price.get(name, price.get(first))
    return price
