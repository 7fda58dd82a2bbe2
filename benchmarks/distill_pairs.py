"""Students, teachers and texts of the benchmarks of distillation, made once. Not run by itself."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import torch

from vocabalign.config import make_config
from vocabalign.stages import STAGES, DistillConfig, TrainingOptions
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.sentence_level import WRITTEN, write_corpus
from vocabalign.train.teacher_calibration import calibrate
from vocabalign.train.teachers import read_teacher


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
        student = self.model(pair.removesuffix(" unified"))
        if pair.endswith("unified"):
            values = {"source": student, "target": teacher, "corpus": text, "untie": pair.startswith("stories260K")}
            student = str(self.made(f"{pair.replace(' ', '-')}-start", "transplant", values))
        return student, teacher

    def written(self, teacher: str, corpus: str, tokens: int) -> str:
        """What the teacher, corrected to the corpus, writes for the sentence level; interrupted, it goes on.

        Args:
            teacher: model folder.
            corpus: whose documents it begins with.
            tokens: of its own to write.
        """
        folder = self.build / "written"
        folder.mkdir(exist_ok=True)
        if (folder / WRITTEN).exists():
            return str(folder / WRITTEN)
        values = {"student": teacher, "teacher": teacher, "corpus": [corpus], "out": folder / "out"}
        vocabulary = load_vocabulary(teacher)
        model = read_teacher(Path(teacher), vocabulary, "float32", "cpu", False, torch.device("cpu"))
        calibrate([corpus], TrainingOptions(), model, vocabulary, model.device)
        return str(write_corpus(make_config(DistillConfig, values), folder, model, vocabulary, tokens))

    def words(self, count: int) -> str:
        """The commonest words of the stories that are no token of stories3M yet, one a line."""
        path = self.build / "words.txt"
        if not path.exists():
            known = set(load_vocabulary(self.model("stories3M")).token_bytes)
            texts = [json.loads(line)["text"] for line in Path(self.text("expand")[0]).read_text().splitlines()]
            counts = Counter(word for text in texts for word in text.split())
            bare = dict.fromkeys(word.strip(".,!?;:\"'()") for word, _ in counts.most_common())
            fresh = [word for word in bare if word.isalpha() and b" " + word.encode() not in known]
            path.write_text("\n".join(fresh[:count]) + "\n")
        return str(path)
