"""The configuration of the Job that prepares data, and the volumes of the sources of data."""

from __future__ import annotations

from collections.abc import Sequence

from chorus_api import contract
from chorus_api.plugin import Plugin
from chorus_api.project import DataSource, Project
from chorus_api.resources import Resources
from chorus_api.run_config import KeptFrames, PrepareConfig
from chorus_operator.decisions import names
from chorus_operator.decisions.resolve import messaging
from chorus_operator.manifests.job import ClaimPlace, config_map, cpu_job, given_to_fetch, project_owner
from chorus_operator.manifests.pod import Manifest, Mount, claim_volume

INLINE_KEY = "inline"
_SOURCE = str(contract.SOURCE_DIR)


def prepare_manifests(
    project: Project,
    key: str,
    *,
    image: str,
    plugins: Sequence[Plugin],
    resources: Resources,
    messages_url: str,
    keep_frames: KeptFrames | None = None,
    api_server: Sequence[str] = (),
) -> list[Manifest]:
    """The ConfigMap and the Job that prepare the frame.

    `resources`: of the Job. `keep_frames`, `api_server`: see PrepareConfig.
    """
    name = names.prepare_job(project, key).name
    source = project.spec.dataset.source
    path, source_name = _source_path(project)
    secret = secret_of(source)
    ca = source.sql.ca_secret_key_ref if source.sql else None
    config = PrepareConfig(
        project=project.metadata.name,
        project_id=project.status.id or 0,
        project_uid=project.metadata.uid,
        prepare_key=key,
        source_path=path,
        source_root=_SOURCE,
        source_name=source_name,
        uri=source.uri,
        database_key=source.sql.url_secret_key_ref.key if source.sql else None,
        secret_dir=str(contract.SOURCE_SECRET_DIR) if secret else None,
        secret_name=secret or "",
        ca_key=ca.key if ca else None,
        ca_dir=str(contract.SOURCE_CA_DIR) if ca else None,
        ca_secret_name=ca.name if ca else "",
        format=project.spec.dataset.format,
        query=project.spec.dataset.query,
        max_rows=project.spec.dataset.max_rows,
        missing_values=project.spec.dataset.missing_values,
        fields=project.spec.dataset.fields,
        eval_fraction=project.spec.dataset.eval_fraction,
        info=dict(project.spec.dataset.info),
        keep_frames=keep_frames,
        api_server=list(api_server),
        messaging=messaging(
            messages_url,
            subject_uid=project.metadata.uid,
            source=f"/namespaces/{project.metadata.namespace}/projects/{project.metadata.name}",
        ),
    )
    data = {"job.json": config.model_dump_json(by_alias=True, indent=1)}
    if source.inline is not None:
        data[INLINE_KEY] = source.inline.data
    labels = names.labels(project.metadata.name, role="prepare") | {contract.PREPARE_KEY_LABEL: key}
    volumes, mounts = _source_volume(source, own_claim=names.claim(project))
    job = cpu_job(
        name=name,
        namespace=project.metadata.namespace,
        place=ClaimPlace.of(project, resources),
        owner=project_owner(project),
        labels=labels,
        annotations={contract.PROJECT_ID_ANNOTATION: str(project.status.id or 0)},
        command="prepare",
        image=image,
        pods=[plugin.spec.pod for plugin in plugins],
        given=given_to_fetch(volumes, mounts).and_config_map(name),
    )
    return [config_map(name, project.metadata.namespace, labels, project_owner(project), data), job]


def _source_path(project: Project) -> tuple[str, str]:
    dataset = project.spec.dataset
    source = dataset.source
    if source.volume is not None:
        return f"{_SOURCE}/{source.volume.path}", f"claim {source.volume.claim_name}, path {source.volume.path}"
    if source.config_map is not None:
        return f"{_SOURCE}/{source.config_map.key}", f"ConfigMap {source.config_map.name}, key {source.config_map.key}"
    if source.uri is not None:
        return "", source.uri.url.partition("?")[0]
    if source.sql is not None:
        return "", f"Secret {source.sql.url_secret_key_ref.name}, key {source.sql.url_secret_key_ref.key}"
    return f"{_SOURCE}/{INLINE_KEY}", "spec.dataset.source.inline"


def secret_of(source: DataSource) -> str | None:
    """Name the Secret that a source needs."""
    if source.sql is not None:
        return source.sql.url_secret_key_ref.name
    return source.uri.secret_ref.name if source.uri is not None and source.uri.secret_ref is not None else None


def _source_volume(source: DataSource, *, own_claim: str) -> tuple[list[Manifest], list[Mount]]:
    """Where the prepare pod finds the source: a claim, a ConfigMap, the configuration itself, or credentials for it."""
    if source.volume is not None and source.volume.claim_name == own_claim:
        # A kubelet of Kubernetes 1.34 waits for ever for the second of two volumes of one claim.
        return [], [Mount("data", _SOURCE, read_only=True)]
    if source.volume is not None:
        volume = claim_volume("source", source.volume.claim_name)
        return [volume], [Mount("source", _SOURCE, read_only=True)]
    if source.config_map is not None:
        items = [{"key": source.config_map.key, "path": source.config_map.key}]
        volume = {"name": "source", "configMap": {"name": source.config_map.name, "items": items}}
        return [volume], [Mount("source", _SOURCE, read_only=True)]
    if source.inline is not None:
        return [], [Mount("config", f"{_SOURCE}/{INLINE_KEY}", INLINE_KEY, read_only=True)]
    secret = secret_of(source)
    if secret is None:
        return [], []
    url = source.sql.url_secret_key_ref if source.sql else None
    volumes = [_secret_volume("source-secret", secret, key=url.key if url else None)]
    mounts = [Mount("source-secret", str(contract.SOURCE_SECRET_DIR), read_only=True)]
    if source.sql is not None and (ca := source.sql.ca_secret_key_ref) is not None:
        volumes.append(_secret_volume("source-ca", ca.name, key=ca.key))
        mounts.append(Mount("source-ca", str(contract.SOURCE_CA_DIR), read_only=True))
    return volumes, mounts


def _secret_volume(name: str, secret: str, *, key: str | None) -> Manifest:
    """Mount one key of a Secret, or all.

    Optional: a pod that waits for a Secret for ever says nothing; one that starts says what is missing.
    """
    mounted: Manifest = {"secretName": secret, "optional": True}
    if key is not None:
        mounted["items"] = [{"key": key, "path": key}]
    return {"name": name, "secret": mounted}
