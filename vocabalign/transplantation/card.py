"""The model card: what the folder is, where it came from, how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_card(folder: Path, source: str, target: str, metrics: Mapping[str, Any]) -> None:
    """Write ``README.md`` with the front matter that the Hub reads.

    Args:
        folder: the model folder.
        source: the source model, as the user named it.
        target: the target tokenizer, as the user named it.
        metrics: of ``transplant_model``.
    """
    names = [Path(name).name for name in (source, target)]
    classes = ", ".join(f"{count:,} {name}" for name, count in metrics["classes"].items() if count)
    calibrated = "calibrated by counting" if metrics["head_calibrated"] else "not calibrated"
    ties = "one matrix (tied)" if metrics["tied"] else "two matrices"
    text = f"""---
library_name: transformers
pipeline_tag: text-generation
base_model:
- {names[0]}
base_model_relation: finetune
tags:
- vocabalign
- vocabulary-adaptation
---
# {names[0]} with the vocabulary of {names[1]}

The embedding and head rows of `{source}` were made anew for the tokenizer of `{target}` by
[vocabalign](https://pypi.org/project/vocabalign/); all other weights are the source's, byte for byte. Nothing has been
trained on top: fine-tune before serious use.

* {metrics["rows"]:,} rows for {metrics["tokens"]:,} tokens: {classes}
* input rows: {metrics["input_rows"]}; head rows: {metrics["head_rows"]}, {calibrated}; {ties}
* `provenance.json` says for every token where its rows came from; `verification.json` what was checked

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH")
tokenizer = AutoTokenizer.from_pretrained("PATH")
```

The licences of both the source model and the target tokenizer apply.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
