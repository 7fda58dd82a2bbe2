"""A model as the draft of a larger one: how much of what it proposes is accepted, and the time that saves.

In speculative decoding (Leviathan et al. 2023; Chen et al. 2023) a small model writes a few tokens ahead and the large
one checks them in one pass. The text is that of the large model; only its speed depends on the draft.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vocabalign.evaluation.bits_per_byte import embedding_rows, start_token
from vocabalign.evaluation.draft_commands import serving_commands
from vocabalign.evaluation.draft_records import Tally, draft_record
from vocabalign.evaluation.options import Place, Subject
from vocabalign.losses.classes import same_vocabulary
from vocabalign.models import context_length, load_model, resolve
from vocabalign.progress import progress
from vocabalign.text.tokenizers import load_vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from vocabalign.text.vocabulary import Vocabulary

TRANSPLANT_FIRST = "transplant it onto the teacher's vocabulary first ('vocabalign transplant --target TEACHER')"


class DraftTrial:
    """One teacher that every model writes drafts for in turn, with transformers' assisted generation.

    Greedy, and with drafts of a fixed length, so that the acceptance rate means what it means in papers.

    Args:
        reference: the teacher's folder.
        prompts: what it goes on from.
        place: where it runs.
        num_tokens: tokens to write for each prompt.
        draft_tokens: tokens of a draft.

    Raises:
        ModelError: the folder is not a model.
        TokenizerError: its tokenizer cannot be loaded.
    """

    def __init__(
        self, reference: str, prompts: Sequence[str], place: Place, num_tokens: int = 64, draft_tokens: int = 5
    ) -> None:
        self.folder = resolve(reference)
        self.vocabulary = load_vocabulary(self.folder)
        self.model = load_model(self.folder, dtype=place.dtype, device=place.device)
        self.prompts, self.num_tokens, self.draft_tokens = list(prompts), num_tokens, draft_tokens

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """The keys of one model in metrics.json; a note alone where transformers cannot use it as a draft."""
        same = same_vocabulary(subject.vocabulary, self.vocabulary)
        rows = embedding_rows(subject.model), embedding_rows(self.model)
        if not same and rows[0] == rows[1]:
            # transformers compares sizes alone, and would take the ids of one vocabulary for those of the other.
            return {"draft_note": f"The model has other tokens than the teacher: {TRANSPLANT_FIRST}."}
        arguments: dict[str, Any] = {"assistant_model": subject.model}
        if rows[0] != rows[1]:
            tokenizers = {"tokenizer": self.vocabulary.tokenizer, "assistant_tokenizer": subject.vocabulary.tokenizer}
            arguments |= tokenizers
        try:
            with _plain_generation(self.model, self.vocabulary), _plain_generation(subject.model, subject.vocabulary):
                subject.model.generation_config.num_assistant_tokens = self.draft_tokens
                subject.model.generation_config.num_assistant_tokens_schedule = "constant"
                subject.model.generation_config.assistant_confidence_threshold = 0.0
                tally = self._try(subject, arguments)
        except (ValueError, RuntimeError, NotImplementedError, AttributeError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            remedy = "" if same else f"; {TRANSPLANT_FIRST}"
            return {"draft_note": f"transformers cannot take the model as a draft ({reason}){remedy}."}
        models = (subject.model, self.model)
        sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
        record = draft_record(tally, sizes[0] / sizes[1], self.draft_tokens, _layers_ratio(*models))
        record["draft_same_vocabulary"] = same
        if same:
            record["draft_commands"] = serving_commands(self.folder, subject.folder, self.draft_tokens)
        elif "draft_note" not in record:
            record["draft_note"] = f"Drafts are carried over as text; for less overhead {TRANSPLANT_FIRST}."
        return record

    def _try(self, subject: Subject, arguments: dict[str, Any]) -> Tally:
        contexts = [length for model in (self.model, subject.model) if (length := context_length(model))]
        tally = Tally()
        with progress(f"Drafting with {subject.name}", len(self.prompts)) as counter:
            for number, prompt in enumerate(self.prompts):
                room = min([self.num_tokens, *(max(1, length // 2) for length in contexts)])
                # A draft may reach beyond what is wanted before it is cut.
                longest = min(contexts, default=1 << 20) - room - self.draft_tokens - 2
                ids = [start_token(self.vocabulary.roles), *self.vocabulary.encode(prompt)[-max(1, longest) :]]
                if not number:  # the first calls of all are slow
                    self._compare(Tally(), subject, prompt, ids, min(8, room), arguments)
                self._compare(tally, subject, prompt, ids, room, arguments)
                counter.advance(1)
        return tally

    def _compare(
        self, tally: Tally, subject: Subject, prompt: str, ids: list[int], num_tokens: int, arguments: dict[str, Any]
    ) -> None:
        """One prompt without and with the draft, and the draft by itself."""
        with _watch_passes(self.model, len(ids)) as passes:
            alone, seconds = _generate(self.model, ids, num_tokens)
        tally.alone = (tally.alone[0] + len(alone), tally.alone[1] + seconds)
        # The first pass reads the prompt.
        tally.single += [seconds for _, seconds in passes[1:]]
        with _watch_passes(self.model, len(ids)) as passes:
            together, seconds = _generate(self.model, ids, num_tokens, **arguments)
        tally.tokens, tally.seconds = tally.tokens + len(together), tally.seconds + seconds
        tally.passes, tally.proposed = tally.passes + len(passes), tally.proposed + sum(n for n, _ in passes)
        tally.checks += [(proposed, seconds) for proposed, seconds in passes[1:]]
        tally.prompts, tally.same = tally.prompts + 1, tally.same + (alone == together)
        ids_of_draft = [start_token(subject.vocabulary.roles), *subject.vocabulary.encode(prompt)][: len(ids)]
        written, seconds = _generate(subject.model, ids_of_draft, num_tokens)
        tally.draft_alone = (tally.draft_alone[0] + len(written), tally.draft_alone[1] + seconds)


def _layers_ratio(draft: PreTrainedModel, teacher: PreTrainedModel) -> float | None:
    layers = [getattr(model.config.get_text_config(), "num_hidden_layers", None) for model in (draft, teacher)]
    return layers[0] / layers[1] if layers[0] and layers[1] else None


def _generate(model: PreTrainedModel, ids: list[int], num_tokens: int, **arguments: Any) -> tuple[list[int], float]:
    """(new tokens, seconds), greedily."""
    import torch

    given = torch.tensor([ids], device=model.device)
    started = _now(model)
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]  # transformers' mixin hides the signature
            given, attention_mask=torch.ones_like(given), max_new_tokens=num_tokens, do_sample=False, **arguments
        )
    return output[0, len(ids) :].tolist(), _now(model) - started


@contextmanager
def _watch_passes(model: PreTrainedModel, prompt_tokens: int) -> Iterator[list[tuple[int, float]]]:
    """(drafted tokens that it checks, seconds) of each pass of the model."""
    passes: list[tuple[int, float]] = []
    started: list[float] = []

    def begin(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        width = (kwargs["input_ids"] if "input_ids" in kwargs else args[0]).shape[1]
        passes.append((width - (1 if passes else prompt_tokens), 0.0))
        started.append(_now(model))

    def end(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        passes[-1] = (passes[-1][0], _now(model) - started[-1])

    handles = [model.register_forward_pre_hook(begin, with_kwargs=True), model.register_forward_hook(end)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _now(model: PreTrainedModel) -> float:
    """Seconds on a clock that has waited for the device."""
    import torch

    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _plain_generation(model: PreTrainedModel, vocabulary: Vocabulary) -> Iterator[None]:
    """Without the folder's own settings (sampling, penalties): only where text ends."""
    from transformers import GenerationConfig

    before = model.generation_config
    end = vocabulary.roles.get("eos")
    padding = vocabulary.roles.get("pad", end if end is not None else 0)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=padding, bos_token_id=None)
    try:
        yield
    finally:
        model.generation_config = before
