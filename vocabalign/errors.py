"""Errors that a user can act on. Each message says what was found, what was expected and what to do."""

from __future__ import annotations


class VocabAlignError(Exception):
    """Base of all errors that are told in one sentence; the command line exits with ``exit_code``."""

    exit_code = 1


class ConfigError(VocabAlignError):
    """A configuration file, flag or override that cannot be used."""

    exit_code = 2


class CorpusError(VocabAlignError):
    """Text that is missing, empty or not in the expected encoding or format."""


class TokenizerError(VocabAlignError):
    """A tokenizer that cannot be loaded, or whose tokens cannot be told as bytes."""


class ModelError(VocabAlignError):
    """A model folder that cannot be read, or whose parts do not belong together."""


class ArtifactError(VocabAlignError):
    """An artefact folder that is missing, incomplete, stale, or in the way."""


class TooFewAnchorsError(VocabAlignError):
    """Too few known pairs to determine a mapping."""


class VerificationError(VocabAlignError):
    """A written model that does not read back as it was meant."""


class TrainingError(VocabAlignError):
    """Training that cannot start or cannot go on."""


class HubError(VocabAlignError):
    """A repository on the Hugging Face Hub that a model cannot be pushed to."""


class ServerError(VocabAlignError):
    """A teacher behind a URL that does not answer, or answers what cannot be used."""
