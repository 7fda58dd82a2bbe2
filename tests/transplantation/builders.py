"""Tiny models of several architectures, and vocabularies made by hand."""

import json
import random
from pathlib import Path

import torch
import transformers

from tests.conftest import TEXT, make_byte_level_tokenizer, make_metaspace_tokenizer

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"vocab_size": 400}


def build(name: str, folder: Path, *, dtype=torch.float32, max_shard_size: str = "5GB") -> Path:
    """A tiny random model with the byte-level tokenizer of 400 tokens."""
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    llama = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 128, **ids}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 400}
    configs = {
        "llama": lambda: transformers.LlamaConfig(**llama, tie_word_embeddings=False),
        "llama-tied": lambda: transformers.LlamaConfig(**llama, tie_word_embeddings=True),
        "qwen2": lambda: transformers.Qwen2Config(**llama, tie_word_embeddings=True),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES, max_position_embeddings=128, **ids),
        "granite": lambda: transformers.GraniteConfig(**llama, tie_word_embeddings=False),
        "gpt2": lambda: transformers.GPT2Config(**gpt2, **ids),
        "gemma2": lambda: transformers.Gemma2Config(**llama, head_dim=8, query_pre_attn_scalar=8, pad_token_id=0),
        "mixtral": lambda: transformers.MixtralConfig(**llama, num_local_experts=2, num_experts_per_tok=1),
        "phi": lambda: transformers.PhiConfig(**SIZES, max_position_embeddings=128, **ids),
    }
    torch.manual_seed(1)
    model = OTHERS[name](llama) if name in OTHERS else transformers.AutoModelForCausalLM.from_config(configs[name]())
    with torch.no_grad():
        for parameter in model.parameters():  # also biases and norms, so that a misplaced one shows
            parameter.add_(torch.randn_like(parameter) * 0.1)
    make_byte_level_tokenizer(folder)
    model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


def _llava(llama: dict, picture: int = 40) -> transformers.PreTrainedModel:
    """Text beside pictures: the text model's configuration is nested."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = transformers.LlamaConfig(**llama, tie_word_embeddings=False)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=picture)
    return transformers.LlavaForConditionalGeneration(config)


def _bert(llama: dict) -> transformers.BertConfig:
    return transformers.BertConfig(**SIZES, max_position_embeddings=128, pad_token_id=0)


# Models that AutoModelForCausalLM does not make.
OTHERS = {
    "llava": _llava,
    "bert": lambda llama: transformers.BertForMaskedLM(_bert(llama)),
    "bert-without-head": lambda llama: transformers.BertModel(_bert(llama)),
}


def target_tokenizer(kind: str, folder: Path) -> Path:
    """A target: "metaspace", or "byte-level" with other merges."""
    if kind == "metaspace":
        return make_metaspace_tokenizer(folder)
    return make_byte_level_tokenizer(folder, 330)


def permuted_tokenizer(source: Path, folder: Path, seed: int = 3) -> tuple[Path, torch.Tensor]:
    """The same tokenizer with its ids in another order; (V,) new id -> old id."""
    state = json.loads((source / "tokenizer.json").read_text())
    vocab = state["model"]["vocab"]
    order = torch.randperm(len(vocab), generator=torch.Generator().manual_seed(seed))
    new_ids = {int(old): new for new, old in enumerate(order)}
    state["model"]["vocab"] = {token: new_ids[old] for token, old in vocab.items()}
    for token in state["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(state))
    (folder / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
    return folder, order


@torch.no_grad()
def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    """(L, V) of a model in its own dtype."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return model(input_ids=torch.tensor([ids])).logits[0]


def stories(count: int, words: int = 60) -> list[str]:
    """Texts of words of the toy corpus in any order, always the same."""
    draw, known = random.Random(0), sorted(set(" ".join(TEXT).split()))
    return [" ".join(draw.choices(known, k=words)) for _ in range(count)]


def files(folder: Path) -> dict[str, bytes]:
    """Name -> content."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
