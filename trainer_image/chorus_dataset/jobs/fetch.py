"""Put a base model from a model hub on a Project's volume, once a revision, whole or not at all."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils.tqdm import disable_progress_bars
from pydantic import Field, ValidationError

from chorus_api.contract import BASES
from chorus_api.file_model import FileModel
from chorus_api.reasons import Reason
from chorus_api.records import TerminationRecord
from chorus_api.run_config import FetchConfig
from chorus_client.stop import StopFlag
from chorus_dataset.errors import DataError, listing
from chorus_dataset.files import STALE_SECONDS, check_room, make_dir, sync_tree, work_dir, write_file
from chorus_dataset.sources.egress import Egress
from chorus_dataset.sources.secret import SourceSecret
from chorus_dataset.untrusted import Directory, Refused

LOG = logging.getLogger(__name__)
RECORD_FILE = "base.json"
_MAX_RECORD_BYTES = 4 << 20
SCHEME = "hf://"
PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
"""Files that are fetched, of the repository's top directory: weights, configuration, tokenizer. No code, no pickle."""
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_PART_PREFIX = ".part-"
"""Begins the names of directories that models are fetched into: `base/.part-<key>.<uid of the Project>`."""
_PLACE_TRIES = 10
"""How often a finished model is brought to its place while other Jobs do the same."""
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SECRET_HINT = "spec.lora.baseModel.secretRef must name a Secret whose token may read the model"


class BaseFile(FileModel):
    """One file of a base model."""

    path: str
    bytes: int
    sha256: str


class BaseRecord(FileModel):
    """base.json: where a base model came from and what it consists of."""

    uri: str
    revision: str | None = Field(None, description="As it was asked for; None is the hub's default branch.")
    commit: str = Field(description="Commit that the revision stood for.")
    digest: str = Field(description="sha256:… over the lines `<sha256>  <path>` of the files, sorted by path.")
    bytes: int
    files: list[BaseFile]


def run_fetch(
    config: FetchConfig, volume: Path, *, stop: StopFlag, endpoint: str | None = None, egress: Egress | None = None
) -> TerminationRecord:
    """Fetch the model into `base/<key>/` and return the termination record; a model that is there is used.

    `endpoint` is the hub's address, by default that of the environment (HF_ENDPOINT). `egress`: where the hub may be,
    by default as the configuration says. Raises `DataError`: BaseModelNotFound if the model or revision does not exist,
    may not be read, or has no weights that can be used, or if something else is in its place on the volume; VolumeFull;
    SourceRefused if the hub, or where it redirects, is where none may be; BadConfiguration for a bad address or token;
    InternalError, to be retried, if the hub cannot be reached.
    """
    record = fetch_model(config, volume, stop=stop, endpoint=endpoint, egress=egress)
    return TerminationRecord(
        outcome="succeeded",
        message=f"{config.uri} at commit {record.commit}",
        digest=record.digest,
        bytes=record.bytes,
        base_model=config.uri[:200],
    )


def fetch_model(
    config: FetchConfig, volume: Path, *, stop: StopFlag, endpoint: str | None = None, egress: Egress | None = None
) -> BaseRecord:
    """Do the work of `run_fetch` and return what is on the volume."""
    if not config.uri.startswith(SCHEME):
        raise DataError(Reason.BAD_CONFIGURATION, f"{config.uri} is no hf:// address", hint="use hf://owner/name")
    if not _KEY.fullmatch(config.base_key):
        raise DataError(Reason.BAD_CONFIGURATION, f"baseKey {config.base_key!r} cannot be the name of a directory")
    if not _KEY.fullmatch(config.project_uid):
        message = f"projectUid {config.project_uid!r} cannot be in the name of a directory"
        raise DataError(Reason.BAD_CONFIGURATION, message)
    bases = make_dir(volume / BASES)
    if (record := _present(volume, config)) is not None:
        LOG.info("%s is already there, at commit %s", config.uri, record.commit)
        return record
    disable_progress_bars()
    # Its transfers by Xet go over sockets that no hook of Python sees.
    constants.HF_HUB_DISABLE_XET = True
    egress = egress or Egress(api_server=config.api_server)
    egress.check_url(endpoint or constants.ENDPOINT)
    token = _token(config)
    api = HfApi(endpoint=endpoint, token=token or False)
    repository = config.uri.removeprefix(SCHEME)
    with _hub_errors(config, egress):
        info = api.model_info(repository, revision=config.revision, files_metadata=True, timeout=30)
    files = choose(info, uri=config.uri)
    # Under a fixed name, so that what a stopped Job has fetched is not fetched again; and under one of the Project's
    # own, for a Job of another Project may fetch the same model at the same time.
    part = make_dir(bases / f"{_PART_PREFIX}{config.base_key}.{config.project_uid}")
    os.utime(part)
    _remove_stale_parts(bases, keep=part.name)
    _check_room(files, part)
    for file in files:
        stop.check()
        os.utime(part)
        LOG.info("fetching %s (%s bytes)", file.rfilename, file.size)
        with _hub_errors(config, egress):
            api.hf_hub_download(repository, file.rfilename, revision=info.sha, local_dir=part)
    stop.check()
    record = _record(config, commit=str(info.sha), files=files, folder=part)
    shutil.rmtree(part / ".cache", ignore_errors=True)
    write_file(part / RECORD_FILE, record.model_dump_json(indent=1).encode())
    sync_tree(part)
    return _put_in_place(volume, config, record, part=part)


def choose(info: ModelInfo, *, uri: str) -> list[RepoSibling]:
    """Choose the files to fetch; `BaseModelNotFound` if there are no weights or no configuration among them."""
    top = [file for file in info.siblings or [] if "/" not in file.rfilename]
    chosen = [file for file in top if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in PATTERNS)]
    weights = [file.rfilename for file in chosen if file.rfilename.endswith(".safetensors")]
    # Some repositories hold the same weights again under other names or in other precisions.
    usual = [name for name in weights if _WEIGHTS.fullmatch(name)]
    spare = set(weights) - set(usual) if usual else set()
    if not weights or not any(file.rfilename == "config.json" for file in chosen):
        lacks = "config.json" if weights else "weights in .safetensors files"
        raise DataError(
            Reason.BASE_MODEL_NOT_FOUND,
            f"{uri} has no {lacks}; it has: {listing([file.rfilename for file in top])}",
            hint="choose a model, or a revision of it, that has model.safetensors and config.json",
        )
    return [file for file in chosen if file.rfilename not in spare]


def _token(config: FetchConfig) -> str | None:
    if config.token_file is None:
        return None
    path = Path(config.token_file)
    if not path.is_file():
        message = f"the hub's token cannot be read from {config.token_file}: no such file"
        raise DataError(Reason.BAD_CONFIGURATION, message, hint=_SECRET_HINT)
    return SourceSecret(path.parent, name="of spec.lora.baseModel.secretRef").get(path.name)


def _check_room(files: Sequence[RepoSibling], folder: Path) -> None:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with Directory.at(folder) as volume:
        check_room(volume, sum(file.size or 0 for file in files) - there, what="the base model")


def _record(config: FetchConfig, *, commit: str, files: Sequence[RepoSibling], folder: Path) -> BaseRecord:
    entries = []
    for file in sorted(files, key=lambda each: each.rfilename):
        path = folder / file.rfilename
        with Directory.at(folder) as opened:
            digest = opened.sha256(file.rfilename)
        if file.lfs is not None and file.lfs.sha256 != digest:
            path.unlink()
            raise DataError(
                Reason.INTERNAL_ERROR, f"{config.uri}: {file.rfilename} arrived damaged from the hub", retryable=True
            )
        entries.append(BaseFile(path=file.rfilename, bytes=path.stat().st_size, sha256=digest))
    lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in entries)
    return BaseRecord(
        uri=config.uri,
        revision=config.revision,
        commit=commit,
        digest=f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}",
        bytes=sum(entry.bytes for entry in entries),
        files=entries,
    )


def _remove_stale_parts(bases: Path, *, keep: str) -> None:
    """Remove what other Jobs have fetched in part and not touched for a day."""
    oldest = time.time() - STALE_SECONDS
    with work_dir(bases) as aside, Directory.at(bases) as folder, Directory.at(aside) as removed:
        for name in list(folder.names()):
            if not name.startswith(_PART_PREFIX) or name == keep:
                continue
            with suppress(OSError):
                if folder.status(name).st_mtime >= oldest:
                    continue
                folder.move(name, removed, name)
                if removed.status(name).st_mtime >= oldest:
                    removed.move(name, folder, name)  # its Job has gone on with it in this instant


def _put_in_place(volume: Path, config: FetchConfig, record: BaseRecord, *, part: Path) -> BaseRecord:
    """Rename the model to its name, or use the whole one that another Job has put there meanwhile."""
    key = config.base_key
    with work_dir(part.parent) as aside, Directory.at(part.parent) as bases, Directory.at(aside) as replaced:
        for number in range(_PLACE_TRIES):
            if (found := _present(volume, config)) is not None:
                LOG.info("%s was put there by another Job, at commit %s", config.uri, found.commit)
                with suppress(FileNotFoundError):  # a pod of the same Job, which was thought lost, has moved it
                    bases.move(part.name, replaced, part.name)
                return found
            _move_damaged_aside(bases, key, replaced, f"{number}")
            try:
                bases.move(part.name, bases, key)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ENOENT):
                    raise
                continue  # another Job was faster
            bases.sync()
            return record
    message = f"{BASES}/{key} of the claim changes all the time: other Jobs write there"
    raise DataError(Reason.INTERNAL_ERROR, message, retryable=True)


def _move_damaged_aside(bases: Directory, key: str, replaced: Directory, name: str) -> None:
    """Move a model that is not whole out of its place; it goes with the work directory."""
    try:
        bases.move(key, replaced, name)
    except FileNotFoundError:
        return
    with suppress(OSError, ValidationError):
        with replaced.directory(name) as folder:
            whole = _is_whole(folder, _read_record(folder))
        if whole:
            replaced.move(name, bases, key)  # another Job has put it there since it was looked at


def _present(volume: Path, config: FetchConfig) -> BaseRecord | None:
    """Return the record of a model that is wholly there, else None; `BaseModelNotFound` if something else is there.

    The key is a short hash of address and revision, and the claim may hold what others have put there.
    """
    place = f"{BASES}/{config.base_key}"
    with Directory.at(volume) as root:
        try:
            opened = root.directory(place)
        except FileNotFoundError:
            return None
        except Refused as error:
            raise _foreign(place, f"something without a {RECORD_FILE} of Chorus's", config) from error
        try:
            with opened as folder:
                record = _read_record(folder)
                if (record.uri, record.revision) != (config.uri, config.revision):
                    raise _foreign(place, _shown(record.uri, record.revision), config)
                return record if _is_whole(folder, record) else None
        except (FileNotFoundError, Refused, ValidationError) as error:
            raise _foreign(place, f"something without a {RECORD_FILE} of Chorus's", config) from error


def _read_record(folder: Directory) -> BaseRecord:
    return BaseRecord.model_validate_json(folder.read(RECORD_FILE, limit=_MAX_RECORD_BYTES))


def _is_whole(folder: Directory, record: BaseRecord) -> bool:
    try:
        return all(folder.status(file.path).st_size == file.bytes for file in record.files)
    except FileNotFoundError:
        return False


def _foreign(place: str, what: str, config: FetchConfig) -> DataError:
    return DataError(
        Reason.BASE_MODEL_NOT_FOUND,
        f"{place} of the claim holds {what}, and not {_shown(config.uri, config.revision)}",
        hint=f"if nothing uses it, delete {place} on the claim and make a new run",
    )


def _shown(uri: str, revision: str | None) -> str:
    return f"{uri} at {revision or 'its default branch'}"


@contextmanager
def _hub_errors(config: FetchConfig, egress: Egress) -> Iterator[None]:
    """Hold connections to `egress`, and turn what the hub's client raises into a `DataError` that names the model."""
    try:
        with egress:
            yield
    except Exception as error:
        problem = _hub_error(error, config, egress)
        if problem is None:
            raise
        raise problem from error


def _hub_error(error: Exception, config: FetchConfig, egress: Egress) -> DataError | None:
    """Say what an error of the hub's client means; None for what is none of its own."""
    if egress.refused is not None:
        message = f"{config.uri} may not be fetched from {egress.refused}"
        return DataError(Reason.SOURCE_REFUSED, message, hint="see where the hub is, and where it redirects to")
    match error:
        case HFValidationError():
            return DataError(Reason.BAD_CONFIGURATION, f"{config.uri}: {error}", hint="use hf://owner/name")
        case GatedRepoError():
            message = f"{config.uri} is open only to those who accepted its terms"
            return DataError(Reason.BASE_MODEL_NOT_FOUND, message, hint=_SECRET_HINT)
        case RevisionNotFoundError():
            message = f"{config.uri} has no revision {config.revision!r}"
            return DataError(Reason.BASE_MODEL_NOT_FOUND, message, hint="give a commit, tag or branch of it")
        case RepositoryNotFoundError():
            message = f"{config.uri} does not exist on the hub, or may not be read"
            return DataError(Reason.BASE_MODEL_NOT_FOUND, message, hint=f"check the name; or {_SECRET_HINT}")
        case HfHubHTTPError():
            return _http_error(error, config)
        case httpx.TransportError() | LocalEntryNotFoundError() | ConnectionError() | TimeoutError():
            said = str(error).splitlines()[0] if str(error) else repr(error)
            hint = "see whether pods of this namespace may reach it, or use a pvc:// model"
            message = f"the hub cannot be reached for {config.uri}: {said}"
            return DataError(Reason.INTERNAL_ERROR, message, hint=hint, retryable=True)
    return None


def _http_error(error: HfHubHTTPError, config: FetchConfig) -> DataError:
    status = error.response.status_code
    if status in (401, 403):
        message = f"the hub does not let {config.uri} be read (HTTP {status})"
        return DataError(Reason.BASE_MODEL_NOT_FOUND, message, hint=_SECRET_HINT)
    message = f"the hub answered HTTP {status} for {config.uri}: {error.server_message or error.response.reason_phrase}"
    return DataError(Reason.INTERNAL_ERROR, message, retryable=status in (408, 429) or status >= 500)
