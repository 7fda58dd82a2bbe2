"""Settings of the stages that distil, and that keep a teacher's targets for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from vocabalign.config import Config, Device, Dtype, StageConfig
from vocabalign.stages.references import Corpus, Reference
from vocabalign.stages.training_configs import LoraOptions, TrainingOptions

Divergence = Literal[
    "forward-kl",
    "reverse-kl",
    "jensen-shannon",
    "normalised-jensen-shannon",
    "skewed-kl",
    "skewed-reverse-kl",
    "adaptive-kl",
    "total-variation",
]
CacheKind = Literal["log-probs", "top-k", "sampled", "hidden"]


def _one_or_several(value: object) -> object:
    """A list of one is that one."""
    if isinstance(value, (list, tuple)):
        items = [str(item) if isinstance(item, Path) else item for item in value]
        return items[0] if len(items) == 1 else items
    return value


Teachers = Annotated[Reference | list[Reference], BeforeValidator(_one_or_several)]


class ServerOptions(Config):
    """How a teacher behind a server is asked (a teacher named by a URL, ``http://host/v1``)."""

    model: str | None = None
    """Its name on the server; by default the first that ``/models`` lists."""
    retries: int = Field(default=6, ge=0)
    """How often a request that failed is sent again; the pauses double."""
    pause_seconds: float = Field(default=0.5, ge=0)
    """The first pause."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest wait for an answer."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key, where the server wants one."""
    context: int | None = Field(default=None, gt=1)
    """Bytes of text in one request; by default 4,000."""


class OnPolicyOptions(Config):
    """Batches that the student writes itself and the teacher scores."""

    share: float = Field(default=0.0, ge=0, le=1)
    """Share of the batches; 0 takes the corpus alone."""
    prompt_tokens: int = Field(default=16, gt=0)
    """Tokens of the corpus that the student goes on from."""
    new_tokens: int | None = Field(default=None, gt=0)
    """Tokens that it writes; by default the rest of the sequence."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the sampling."""


class DifferenceSamplingOptions(Config):
    """Train on the documents that the teacher likes more than a small model does (MiniPLM)."""

    keep: float = Field(default=1.0, gt=0, le=1)
    """Share of the documents that is kept; 1 keeps all and scores nothing."""
    reference: Reference | None = None
    """Model folder that is compared with; by default the student as it is before training."""


class SentenceOptions(Config):
    """Text that the teacher writes, for the loss ``sentence``."""

    tokens: int | None = Field(default=None, gt=0)
    """Teacher's tokens to write; by default as many as the steps take of the student's."""
    prompt_tokens: int = Field(default=8, gt=0)
    """Tokens of each document that the teacher goes on from."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the sampling."""


class DistillConfig(StageConfig):
    """Distillation: the student learns the teacher's whole next-token distribution, with one tokenizer or two."""

    student: Reference
    """Model folder to train."""
    teacher: Teachers = []
    """Model folder that teaches, or several; ``self`` for the student with its adapters off; a URL for a server that
    returns log-probabilities of a prompt. May be left out where a cache is given."""
    corpus: Corpus
    """Training text."""
    heldout: Corpus = []
    """Text for scores during training; never trained on."""
    cache: Path | None = None
    """Folder of ``distill cache``: the teacher is not run."""
    lexicon: Path | None = None
    """Folder of ``align`` from the teacher's tokenizer to the student's; for the loss ``projection``."""
    loss: str = "auto"
    """``token`` (one vocabulary), ``event``, ``chunks``, ``prefixes``, ``projection``, ``uld``, ``gold``, ``hidden``,
    or a sum with coefficients such as ``event+0.5*chunks``; ``sentence`` trains on what the teacher writes. ``auto``
    takes ``token`` where every id means the same, else what the two tokenizers' coverage speaks for, and says why."""
    divergence: Divergence = "forward-kl"
    """What is minimised between teacher and student distributions."""
    distillation_weight: float | None = Field(default=None, ge=0, le=1)
    """Weight of the teacher; the rest is cross-entropy. 0 is direct tuning: the control. By default 0.9 where the
    teacher's distribution stands for the label (``token``, ``event``, ``prefixes``), 0.5 for other losses."""
    temperature: float = Field(default=1.0, gt=0)
    """Both distributions are softened by it; the divergence is multiplied by its square."""
    teacher_weights: list[float] = []
    """Weights of several teachers, in their order; by default all the same."""
    teacher_dtype: Dtype | None = None
    """Arithmetic of the teacher; by default the student's."""
    teacher_device: Device = "auto"
    """Where the teacher runs; ``auto`` is the student's device."""
    teacher_offload: bool = False
    """Keep the teacher's weights in main memory and bring each layer to its device as it runs."""
    server: ServerOptions = ServerOptions()
    """How a teacher behind a URL is asked."""
    on_policy: OnPolicyOptions = OnPolicyOptions()
    """Batches that the student writes itself."""
    difference_sampling: DifferenceSamplingOptions = DifferenceSamplingOptions()
    """Which documents are trained on."""
    sentence: SentenceOptions = SentenceOptions()
    """What the teacher writes for the loss ``sentence``."""
    check_teacher: bool = True
    """Score teacher and student on a sample of the text beforehand, and warn where the teacher is the worse."""
    calibrate_teacher: bool = True
    """Correct how often the teacher expects each token by how often it is there, on a sample of the corpus: for a
    teacher whose own text looked otherwise (line ends, quotation marks, another language). Of models that are run; a
    cache is corrected or not when it is made."""
    train: Literal["everything", "lora"] = "everything"
    """All parameters, or LoRA adapters beside the body's matrices alone; they are merged into the model that is
    written."""
    lora: LoraOptions = LoraOptions()
    """Adapters, where ``train`` is ``lora``."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate."""
    training: TrainingOptions = TrainingOptions()
    """Schedule and batch."""
    trainer: dict[str, object] = {}
    """Passed to transformers' TrainingArguments as they are."""

    @property
    def teachers(self) -> list[str]:
        """All of them."""
        return list(self.teacher) if isinstance(self.teacher, list) else [self.teacher]


class DistillCacheConfig(StageConfig):
    """Make a teacher's targets once: for any number of students, each with any tokenizer."""

    teacher: Reference
    """Model folder that teaches, or the URL of a server that returns log-probabilities of a prompt."""
    corpus: Corpus
    """Text that students will be trained on."""
    kind: CacheKind = "log-probs"
    """``log-probs`` keeps what the teacher gives to the text that is there (a few bytes a token), ``top-k`` its
    likeliest tokens and the rest as one number, ``sampled`` tokens drawn from it, ``hidden`` its hidden states, of
    which everything can be made."""
    top_k: int = Field(default=50, gt=0)
    """Tokens kept at every place, for ``top-k``; at most the vocabulary."""
    draws: int = Field(default=50, gt=0, le=255)
    """Tokens drawn at every place, for ``sampled``."""
    exact: bool = False
    """Keep the log-probabilities of ``top-k`` as 16-bit numbers instead of a curve through them."""
    calibrate_teacher: bool = True
    """Correct how often the teacher expects each token by how often it is there, on a sample of the corpus, before
    anything is kept; not of a server."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the teacher's distribution; ``top-k`` and ``sampled`` can be used at no other."""
    batch_size: int = Field(default=16, gt=0)
    """Windows in one forward pass."""
    context: int | None = Field(default=None, gt=1)
    """Tokens that the teacher reads at once; by default as many as it was made for, at most 2,048."""
    shard_mebibytes: int = Field(default=64, gt=0)
    """Size of a file; an interrupted run goes on behind the last whole one."""
    server: ServerOptions = ServerOptions()
    """How a teacher behind a URL is asked."""
