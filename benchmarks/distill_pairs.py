"""Students, teachers and texts of distill_quality.py, made once. Not run by itself."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

from vocabalign.config import make_config
from vocabalign.stages import STAGES
from vocabalign.text.tokenizers import load_vocabulary

WORDS = 2000


class Pairs:
    """What each pair begins with.

    Args:
        build: where it is kept.
    """

    def __init__(self, build: Path) -> None:
        self.material, self.build = Path(os.environ["VOCABALIGN_MATERIAL"]), build

    def model(self, name: str) -> str:
        """A model of the material."""
        return str(self.material / "models" / f"{name}-hf")

    def text(self, pair: str) -> tuple[str, str]:
        """Training and held-out text."""
        if pair == "demo":
            out = self.made("standard-library", "corpus", {"standard_library": True, "heldout_max_bytes": 60_000})
            return str(out / "train.jsonl"), str(out / "heldout.jsonl")
        path = self.build / "stories.jsonl"
        corpora = self.material / "corpora"
        if not path.exists():
            files = [
                corpora / "tinystories" / "train.jsonl",
                *sorted((corpora / "tinystories-sampled").glob("*.jsonl")),
            ]
            lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            random.Random(0).shuffle(lines)
            path.write_text("\n".join(lines[:5000]) + "\n", encoding="utf-8")
        return str(path), str(corpora / "tinystories" / "heldout.jsonl")

    def made(self, name: str, stage: str, values: dict) -> Path:
        """An artefact that several cells begin with."""
        out = self.build / name
        if not out.exists():
            STAGES[stage].run(make_config(STAGES[stage].config_class, {**values, "out": out}))
        return out

    def sides(self, pair: str) -> tuple[str, str]:
        """Student as it begins, and teacher."""
        text = [self.text(pair)[0]]
        teacher = self.model("stories3M")
        if pair == "demo":
            return "demo:source", "demo:teacher"
        if pair == "worse teacher":
            return self.model("stories260K"), self.model("tlm-833K")
        if pair in ("reduce", "expand"):
            name = "prune" if pair == "reduce" else "extend"
            size = {"size": 2048} if pair == "reduce" else {"words": self.words()}
            values = {"tokenizer": teacher, "corpus": text, **size}
            target = self.made(f"{pair}-tokenizer", f"tokenizer-{name}", values)
            values = {"source": teacher, "target": str(target), "corpus": text}
            return str(self.made(f"{pair}-start", "transplant", values)), teacher
        student = self.model(pair.removesuffix(" unified"))
        if pair.endswith("unified"):
            values = {"source": student, "target": teacher, "corpus": text, "untie": pair.startswith("stories260K")}
            student = str(self.made(f"{pair.replace(' ', '-')}-start", "transplant", values))
        return student, teacher

    def words(self) -> str:
        """The commonest words of the text that are no token yet, one a line."""
        path = self.build / "words.txt"
        if not path.exists():
            vocabulary = load_vocabulary(self.model("stories3M"))
            texts = [json.loads(line)["text"] for line in Path(self.text("expand")[0]).read_text().splitlines()]
            words = [
                word.strip(".,!?;:\"'()")
                for word, _ in Counter(w for text in texts for w in text.split()).most_common()
            ]
            known = set(vocabulary.token_bytes)
            fresh = dict.fromkeys(w for w in words if w.isalpha() and b" " + w.encode() not in known)
            path.write_text("\n".join(list(fresh)[:WORDS]) + "\n")
        return str(path)
