"""Models on the Hugging Face Hub: the one place that sends anything anywhere, and only when it is asked to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vocabalign.errors import HubError
from vocabalign.fingerprints import MANIFEST
from vocabalign.model_card import CARD, loading_from, write_scores
from vocabalign.progress import logger

_NETWORK = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})


def check_repository(repository: str) -> None:
    """Before any work: the name is one, the Hub answers, and it knows who asks.

    Raises:
        HubError: otherwise.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise HubError(f"'{repository}' is no name of a repository: expected USER/NAME. {error}") from error
    with _told(repository):
        HfApi().whoami()


def push_model(folder: Path, repository: str) -> str:
    """Upload a model folder; a repository that does not exist is made, and is private.

    Its card says how to load it from there and, where an evaluation beside it has scored it, its scores.

    Returns:
        The repository's address.

    Raises:
        HubError: the Hub refuses or cannot be reached; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    text = loading_from(write_scores(card, scores_beside(folder)), repository)
    with _told(repository):
        api = HfApi()
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, ignore_patterns=[".*", CARD], commit_message="Model of vocabalign"
        )
        if text:
            content = text.encode()
            api.upload_file(path_or_fileobj=content, path_in_repo=CARD, repo_id=repository, commit_message="Model card")
    logger.info("%s pushed to %s", folder, address)
    return str(address)


def scores_beside(folder: Path) -> Sequence[Mapping[str, Any]]:
    """All models of the first evaluation in the same run folder that has scored this model; none without one."""
    for manifest in sorted(folder.absolute().parent.glob(f"*/{MANIFEST}")):
        try:
            metrics = json.loads((manifest.parent / "metrics.json").read_text(encoding="utf-8"))
            rows = metrics["models"]
            if any(Path(str(row.get("path"))).parts[-2:] == folder.absolute().parts[-2:] for row in rows):
                return rows
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return []


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """What goes wrong on the way, in one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        message = "HF_HUB_OFFLINE is set, so nothing can be pushed: unset it, or leave --push-to-hub out."
        raise HubError(message) from error
    except LocalTokenNotFoundError as error:
        raise HubError("The Hub needs to know who pushes: say 'hf auth login', or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        reason = " ".join(str(error.server_message or error).split())[:300]
        raise HubError(f"The Hub refuses to take {repository} (status {status}): {reason}") from error
    except Exception as error:
        # Versions of huggingface_hub speak through different libraries, each with errors of its own.
        if type(error).__module__.partition(".")[0] not in _NETWORK and not isinstance(error, OSError):
            raise
        message = f"The Hub cannot be reached ({type(error).__name__}: {error}): see to the network and push again."
        raise HubError(message) from error
