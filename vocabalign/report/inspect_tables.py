"""Tables of an inspection, for the terminal and the page alike: facts, compression, sharing, single tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vocabalign.report.blocks import Table, number
from vocabalign.report.escape import shorten, visible, visible_edges

Result = Mapping[str, Any]
MAX_ROWS = 200
"""Files and special tokens over this are left out of tables; the JSON has all."""
TOKEN_CHARACTERS = 48
RULE_NAMES = {
    "raw_string": "raw string",
    "bytes": "bytes",
    "bytes_up_to_leading_space": "bytes, leading space or not",
    "bytes_up_to_leading_space_and_case": "bytes, leading space and case or not",
}
ODDITY_NAMES = {
    "gaps": "ids without a token",
    "without_text": "written as no text is",
    "duplicates": "duplicates that text is never given",
    "never_given": "never given, even for their own text",
    "byte_tokens": "byte-fallback tokens",
    "idle_byte_tokens": "of these, a byte that has an ordinary token",
    "fragments": "parts of characters",
    "control_characters": "with invisible characters",
    "several_scripts": "with letters of several scripts",
}


def names_of(result: Result) -> list[str]:
    """What to call the vocabularies: their names, with A and B where these are equal."""
    names = [visible(str(entry["name"])) for entry in result["vocabularies"]]
    return [f"{name} ({side})" for name, side in zip(names, "AB")] if len(set(names)) < len(names) else names


def shown_token(text: str) -> str:
    """A token on one line, with its outer spaces seen, not too long."""
    return shorten(visible(visible_edges(text)), TOKEN_CHARACTERS)


def facts_table(result: Result) -> Table:
    """What each tokenizer is; with a corpus also how it does there."""
    entries = result["vocabularies"]
    odd = [kind for kind in ODDITY_NAMES if any(entry["oddities"][kind] for entry in entries)]
    columns = [_facts(entry, odd) for entry in entries]
    rows = [(label, *(column[label] for column in columns)) for label in columns[0]]
    names = names_of(result)
    header = ("", *(f"{side}: {name}" for side, name in zip("AB", names))) if len(names) > 1 else ("", *names)
    caption = "The probe texts are short texts on which tokenizers are known to fail."
    return Table(caption, header, rows, tokens=frozenset(range(1, len(entries) + 1)))


def _facts(entry: Mapping[str, Any], odd: Sequence[str]) -> dict[str, str]:
    facts = {
        "kind": " ".join(filter(None, (entry["kind"], entry["model"]))),
        "size": number(entry["size"]),
        "roles": ", ".join(f"{role} {shown_token(token)}" for role, token in entry["roles"].items()) or "none",
        "special tokens": number(len(entry["special_tokens"])),
        "normalizer": ", ".join(entry["normalizer"]) or "none",
        "space put before every text": "yes" if entry["dummy_prefix"] else "no",
        "longest token": f"{max(entry['lengths']['types'], default=0)} bytes",
        "probe texts": ", ".join(f"{count} {outcome}" for outcome, count in entry["probes"].items()),
    }
    facts |= {ODDITY_NAMES[kind]: number(len(entry["oddities"][kind])) for kind in odd}
    compression = entry.get("compression")
    if compression:
        facts |= {
            "bytes per token": number(compression["bytes_per_token"], 3),
            "tokens per kilobyte": number(compression["tokens_per_kilobyte"], 1),
            "running tokens that are byte fallback": f"{compression['byte_fallback_share']:.2%}",
            "running tokens that are unknown": f"{compression['unknown_share']:.2%}",
            "types used": f"{number(compression['types_used'])} ({compression['types_used'] / entry['size']:.1%})",
        }
    return facts


def compression_table(result: Result) -> Table:
    """Each file under each vocabulary; of two also how much longer B's sequences are, and what A has of them."""
    names = names_of(result)
    files = result["corpus"]["files"]
    header = ["File", "kB"]
    for label in ("Bytes per token", "Tokens per kB", "Fallback"):
        header += [f"{label}, {side}" for side in "AB"] if len(names) > 1 else [label]
    if len(names) > 1:
        header += ["Tokens, B against A", "Tokens of A in B", "Tokens of B in A"]
    rows = []
    for file in files[:MAX_ROWS]:
        both = file["compression"]
        row = [file["label"], number(file["bytes"] / 1000)]
        row += [number(one["bytes_per_token"], 3) for one in both]
        row += [number(one["tokens_per_kilobyte"], 1) for one in both]
        row += [f"{one['byte_fallback_share'] + one['unknown_share']:.2%}" for one in both]
        if len(names) > 1:
            row.append(f"{both[1]['tokens'] / max(both[0]['tokens'], 1) - 1:+.1%}")
            row += [f"{file['shared']['bytes'][f'token_share_of_{side}']:.2%}" for side in "ab"]
        rows.append(row)
    caption = (
        f"{_letters(names)}Special tokens are not counted; a kilobyte is 1,000 bytes. Fallback: share of "
        "tokens that stand for single bytes or for the unknown."
    )
    if len(names) > 1:
        caption += " The last columns: running tokens that the other vocabulary has, compared by bytes."
    caption += _left_out(len(files), "files")
    return Table(caption, header, rows, frozenset(range(1, len(header))), frozenset({0}))


def _letters(names: Sequence[str]) -> str:
    return f"A is {names[0]}, B is {names[1]}. " if len(names) > 1 else ""


def _left_out(count: int, what: str) -> str:
    return f" The first {MAX_ROWS} of {number(count)} {what}." if count > MAX_ROWS else ""


def sharing_table(result: Result) -> Table:
    """What the two share, by each rule."""
    names = names_of(result)
    header = ["Compared by"] + [f"Types of {name}" for name in names]
    if "corpus" in result:
        header += [f"Running tokens of {name}" for name in names]
    rows = []
    for rule, shares in result["shared"].items():
        row = [RULE_NAMES[rule]]
        row += [f"{number(shares[f'types_of_{side}'])} ({shares[f'type_share_of_{side}']:.2%})" for side in "ab"]
        if "corpus" in result:
            row += [f"{shares[f'token_share_of_{side}']:.2%}" for side in "ab"]
        rows.append(row)
    caption = "Tokens of each side that the other has too. Special tokens count as not shared, except by raw string."
    return Table(caption, header, rows, frozenset(range(1, len(header))))


def script_table(result: Result, rows_shown: int = MAX_ROWS) -> Table:
    """Sharing script by script, by bytes and by raw string."""
    header = ["Script"]
    for side in "AB":
        header += [f"Types of {side}", "shared by bytes", "by raw string"]
        header += [f"running tokens of {side} shared by bytes"] if "corpus" in result else []
    rows = []
    for entry in result["shared_by_script"][:rows_shown]:
        row = [entry["script"]]
        for side in "ab":
            by_bytes, raw = entry["shared"]["bytes"], entry["shared"]["raw_string"]
            types = entry[f"types_of_{side}"]
            row.append(number(types))
            row += [f"{shares[f'type_share_of_{side}']:.1%}" if types else "" for shares in (by_bytes, raw)]
            if "corpus" in result:
                row.append(f"{by_bytes[f'token_share_of_{side}']:.2%}" if entry[f"tokens_of_{side}"] else "")
        rows.append(row)
    count = len(result["shared_by_script"])
    caption = f"{_letters(names_of(result))}A token is of a script when all its letters are."
    caption += f" {rows_shown} of {count} scripts, those with the most types." if count > rows_shown else ""
    return Table(caption, header, rows, frozenset(range(1, len(header))))


def token_table(tokens: Sequence[Mapping[str, Any]], caption: str) -> Table:
    """Single tokens; with the kind of oddity where they have one, and their uses where text was counted."""
    with_kind = any("kind" in token for token in tokens)
    with_uses = any("uses" in token for token in tokens)
    header = ["Token", "Id", *(["Oddity"] if with_kind else []), "Bytes", "Script", *(["Uses"] if with_uses else [])]
    rows = []
    for token in tokens:
        row = [shown_token(token["token"]), str(token["id"])]
        row += [ODDITY_NAMES[token["kind"]]] if with_kind else []
        row += [number(token["bytes"]), token["script"]]
        row += [number(token["uses"])] if with_uses else []
        rows.append(row)
    numeric = {i for i, name in enumerate(header) if name in ("Id", "Bytes", "Uses")}
    return Table(caption, header, rows, frozenset(numeric), frozenset({0}))


def special_table(entry: Mapping[str, Any], name: str) -> Table:
    """Special tokens with the roles they have."""
    tokens = sorted(entry["special_tokens"], key=lambda token: not token["roles"])
    rows = [
        (shown_token(token["token"]), str(token["id"]), ", ".join(token["roles"]) or "none")
        for token in tokens[:MAX_ROWS]
    ]
    caption = f"Special tokens of {name}." + _left_out(len(tokens), "special tokens")
    return Table(caption, ("Token", "Id", "Roles"), rows, frozenset({1}), frozenset({0}))


def false_friends_table(result: Result) -> Table:
    """Tokens that only look the same."""
    friends = result["false_friends"]
    rows = [(shown_token(row["raw"]), row["bytes_in_a"], row["bytes_in_b"]) for row in friends["examples"]]
    caption = (
        f"False friends: {number(friends['count'])} tokens are written the same in both files and stand for other "
        "bytes (in hexadecimal). Matching by raw string pairs them."
    )
    return Table(caption, ("Raw token", *(f"In {name}" for name in names_of(result))), rows, tokens=frozenset({0}))
