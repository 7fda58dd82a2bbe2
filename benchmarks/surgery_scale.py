"""Memory and time of giving a model of 6 GB another vocabulary, beside copying its folder with ``cp -r``.

python benchmarks/surgery_scale.py                            # 6 GB twice on the disk under --folder, minutes
python benchmarks/surgery_scale.py --layers 1 --hidden 512    # seconds

The model is a Llama with bfloat16 weights from a generator of random bytes, in shards of 1 GB, with an embedding and a
head of its own. Its tokenizer and the target have 64,000 tokens each, of which half are shared. What is measured is
what writes: rows made from the sources' cuts of each token, the files with new matrices, and everything else copied;
nothing runs the model. Peak memory is that of a fresh process, above what it holds when everything is imported; old and
new matrices are counted as they lie on the disk. ``cp -r`` is timed in turn with it; the disk is flushed before each
run, and each time includes flushing what was written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOKENS = 64_000
SHARED = 32_000


def make_tokenizer(folder: Path, letters: str) -> None:
    """A byte-level BPE of TOKENS tokens: pairs and fours of lower-case letters, and pairs of ``letters``' own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    merges: list[tuple[str, str]] = []

    def merge(left: str, right: str) -> None:
        vocabulary.setdefault(left + right, len(vocabulary))
        merges.append((left, right))

    small = "abcdefghijklmnopqrstuvwxyz"
    pairs = [a + b for a in small for b in small]
    for pair in pairs:
        merge(pair[0], pair[1])
    fours = ((a, b) for a in pairs for b in pairs)
    while len(vocabulary) < SHARED:
        merge(*next(fours))
    own = [(a, b) for a in letters for b in letters]
    for a, b in own:
        merge(a, b)
    longer = ((a + b, c + d) for a, b in own for c, d in own)
    while len(vocabulary) < TOKENS:
        merge(*next(longer))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)


def make_model(folder: Path, options: argparse.Namespace) -> None:
    """Write a Llama's folder shard by shard; bytes are random, with exponents that give ordinary numbers."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    hidden, inner = options.hidden, options.hidden * 8 // 3
    config = LlamaConfig(
        vocab_size=TOKENS, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=options.layers,
        num_attention_heads=hidden // 128, num_key_value_heads=hidden // 128, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, dtype="bfloat16", architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(folder)
    shapes = {"model.embed_tokens.weight": (TOKENS, hidden)}
    for layer in range(options.layers):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"}
        shapes |= {f"{prefix}mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes |= {f"{prefix}mlp.down_proj.weight": (hidden, inner)}
        shapes |= {f"{prefix}{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (TOKENS, hidden)}
    generator = torch.Generator().manual_seed(0)
    shards: list[dict[str, torch.Tensor]] = [{}]
    weight_map, files = {}, 0

    def flush() -> None:
        nonlocal files
        files += 1
        name = f"model-{files:05d}.safetensors"
        save_file(shards[0], folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shards[0], name))
        shards[0] = {}

    for name, shape in shapes.items():
        # Sums of random bytes: near enough to a normal distribution, and quick.
        raw = torch.randint(-128, 128, (*shape,), generator=generator, dtype=torch.int8)
        shards[0][name] = raw.to(torch.bfloat16) / 4096
        if sum(2 * tensor.numel() for tensor in shards[0].values()) >= options.shard_megabytes * 1_000_000:
            flush()
    if shards[0]:
        flush()
    total = sum(2 * torch.Size(shape).numel() for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def memory(key: str) -> int:
    """Bytes from ``/proc/self/status``: VmRSS now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def write(folder: Path, out: Path) -> dict[str, float]:
    """Transplant here and tell seconds and memory, of this fresh process."""
    import transformers  # noqa: F401 - a part of the baseline
    from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

    from vocabalign.text.tokenizers import load_vocabulary
    from vocabalign.transplantation.checkpoint import open_checkpoint
    from vocabalign.transplantation.matrices import Methods, make_new_rows
    from vocabalign.transplantation.sources import counterparts, find_sources
    from vocabalign.transplantation.surgery import Ids, write_model_files

    checkpoint = open_checkpoint(folder / "source")
    source, target = (load_vocabulary(folder / name) for name in ("source", "target"))
    sources = find_sources(source, target, checkpoint.num_rows, None, {})
    out.mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, started = memory("VmRSS"), time.perf_counter()
    rows = make_new_rows(checkpoint, sources, target, len(target), Methods(), None, None)
    made = time.perf_counter()
    ids = Ids(len(target), target.roles, counterparts(sources))
    write_model_files(checkpoint, out, rows.embedding, rows.head, rows.bias, ids)
    written = time.perf_counter()
    os.sync()
    matrices = sum(t.numel() * t.element_size() for t in (rows.embedding, rows.head) if t is not None)
    return {
        "rows": made - started,
        "files": written - made,
        "seconds": time.perf_counter() - made,
        "peak": memory("VmHWM") - before,
        "matrices": 2 * matrices,
    }


def copy(folder: Path, out: Path) -> float:
    """Seconds of ``cp -r``, flushed."""
    started = time.perf_counter()
    subprocess.run(["cp", "-r", folder / "source", out], check=True)
    os.sync()
    return time.perf_counter() - started


def main() -> None:
    """Print ours, the copy's and the ratio, all from one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("surgery_scale"), help="Made here and removed again.")
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--shard-megabytes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(json.dumps(write(options.folder, options.folder / "ours")))
        return
    options.folder.mkdir(parents=True)
    try:
        make_tokenizer(options.folder / "source", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        make_tokenizer(options.folder / "target", "0123456789!#$%&*+-/<=>?@^_")
        make_model(options.folder / "source", options)
        size = sum(path.stat().st_size for path in (options.folder / "source").iterdir())
        ours, copies = [], []
        for _ in range(options.runs):
            os.sync()
            command = [sys.executable, __file__, "--write", "--folder", str(options.folder)]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            ours.append(json.loads(result.stdout.splitlines()[-1]))
            shutil.rmtree(options.folder / "ours")
            os.sync()
            copies.append(copy(options.folder, options.folder / "copy"))
            shutil.rmtree(options.folder / "copy")
    finally:
        shutil.rmtree(options.folder)
    best = min(ours, key=lambda run: run["seconds"])
    limit = 2.5 * best["matrices"] + 400e6
    print(f"a model of {size / 1e9:.2f} GB; old and new embedding and head {best['matrices'] / 1e9:.2f} GB")
    print(
        f"writing {best['seconds']:.1f} s (before flushing {best['files']:.1f}), rows before that {best['rows']:.1f} s"
    )
    print(f"cp -r   {min(copies):.1f} s; writing / cp -r: {best['seconds'] / min(copies):.2f}, at most 1.5 wanted")
    peak = max(run["peak"] for run in ours)
    print(f"peak memory {peak / 1e9:.2f} GB, {peak / limit:.2f} of the {limit / 1e9:.2f} GB allowed")


if __name__ == "__main__":
    main()
