"""What the operator asks the cluster for: restricted pods that see only what they need."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chorus_api import contract
from chorus_api.reasons import ExitCode
from chorus_api.run_config import PrepareConfig
from chorus_kube.resources import CONFIG_MAPS
from chorus_operator.decisions.observed import job_view
from chorus_operator.decisions.outcome.table import outcome_of
from chorus_operator.manifests.pod import whole_cpus
from unit_manifests import plugin, project, run
from world import World

GPU = {"resourceName": "nvidia.com/gpu", "count": 1}
HUB = {"baseModel": {"uri": "hf://google/flan-t5-small", "secretRef": {"name": "hub"}}}


def all_jobs() -> dict[str, dict[str, Any]]:
    """One Job of each role, by role."""
    world = World()
    world.put(plugin(accelerator=GPU, lora=HUB, resources={"limits": {"cpu": "1500m"}}), project())
    prepare = world.jobs("prepare")[0]
    world.frame_ready()
    fetch = world.jobs("fetch")[0]
    world.pod_starts(fetch)
    world.job_ends(fetch)
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"))
    names = {
        "prepare": prepare,
        "fetch": fetch,
        "train": world.attempt("home-soft-1"),
        "publish": world.publication("home-soft-1"),
    }
    jobs = {role: world.job(name) for role, name in names.items()}
    return {role: job for role, job in jobs.items() if job is not None}


JOBS = all_jobs()
ROLES = sorted(JOBS)


def pod(role: str) -> dict[str, Any]:
    return dict(JOBS[role]["spec"]["template"]["spec"])


def test_every_role_has_its_job() -> None:
    assert ROLES == ["fetch", "prepare", "publish", "train"]


@pytest.mark.parametrize("role", ROLES)
def test_every_pod_passes_the_restricted_profile_and_has_no_api_token(role: str) -> None:
    spec = pod(role)
    container = spec["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("role", ROLES)
def test_only_training_pods_ask_for_a_gpu(role: str) -> None:
    limits = pod(role)["containers"][0]["resources"]["limits"]
    assert ("nvidia.com/gpu" in limits) is (role == "train")


@pytest.mark.parametrize("role", ROLES)
def test_only_the_fetch_job_sees_the_hubs_secret(role: str) -> None:
    secrets = [volume["secret"]["secretName"] for volume in pod(role)["volumes"] if "secret" in volume]
    assert secrets == (["hub"] if role == "fetch" else [])


@pytest.mark.parametrize("role", ROLES)
def test_a_run_job_is_owned_by_the_run_and_a_project_job_by_the_project(role: str) -> None:
    owner = JOBS[role]["metadata"]["ownerReferences"][0]
    assert owner["kind"] == ("TrainingRun" if role in ("train", "publish") else "Project")
    assert owner["controller"] is True


def test_a_training_pod_can_write_to_its_own_directory_and_nowhere_else() -> None:
    mounts = {mount["mountPath"]: mount for mount in pod("train")["containers"][0]["volumeMounts"]}
    writable = sorted(path for path, mount in mounts.items() if not mount["readOnly"])
    assert writable == [str(contract.RUN_DIR), "/tmp"]
    assert mounts[str(contract.RUN_DIR)]["subPath"].startswith("runs/")
    assert mounts[str(contract.BASE_DIR)]["subPath"].startswith("base/")
    assert str(contract.VOLUME_DIR) not in mounts


def test_thread_pools_follow_the_cpu_limit() -> None:
    env = {variable["name"]: variable["value"] for variable in pod("train")["containers"][0]["env"]}
    assert env["OMP_NUM_THREADS"] == "2"
    assert whole_cpus({"requests": {"cpu": "250m"}}) == 1
    assert whole_cpus({}) is None


def test_pods_of_a_project_are_kept_on_one_node_unless_its_volume_can_be_on_many() -> None:
    assert "podAffinity" in pod("train")["affinity"]
    world = World()
    world.put(plugin(), project(storage={"accessMode": "ReadWriteMany"}))
    prepare = world.job(world.jobs("prepare")[0])
    assert prepare is not None
    assert prepare["spec"]["template"]["spec"]["affinity"] == {}


def test_a_base_model_on_a_claim_is_mounted_read_only_from_its_path() -> None:
    world = World()
    world.put(plugin(lora={"baseModel": {"uri": "pvc://models/a/b"}}), project())
    world.frame_ready()
    job = world.job(world.attempt("home-soft-1"))
    assert job is not None
    spec = job["spec"]["template"]["spec"]
    base = next(m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == str(contract.BASE_DIR))
    assert (base["subPath"], base["readOnly"]) == ("a/b", True)
    volume = next(volume for volume in spec["volumes"] if volume["name"] == base["name"])
    assert volume["persistentVolumeClaim"]["claimName"] == "models"


def test_a_base_model_on_the_projects_own_claim_needs_no_second_volume() -> None:
    world = World()
    storage = {"claimName": "mine"}
    world.kube.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "mine"}})
    world.put(plugin(lora={"baseModel": {"uri": "pvc://mine/base/t5"}}), project(storage=storage))
    world.frame_ready()
    job = world.job(world.attempt("home-soft-1"))
    assert job is not None
    claims = [v for v in job["spec"]["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert len(claims) == 1


def test_data_on_the_projects_own_claim_needs_no_second_volume() -> None:
    world = World(claims=("models", "all"))
    dataset = {"source": {"volume": {"claimName": "all", "path": "rows.csv"}}}
    world.put(plugin(), project(dataset=dataset, storage={"claimName": "all"}))
    job = world.job(world.jobs("prepare")[0])
    assert job is not None
    spec = job["spec"]["template"]["spec"]
    claims = [each["persistentVolumeClaim"]["claimName"] for each in spec["volumes"] if "persistentVolumeClaim" in each]
    assert claims == ["all"]
    [source] = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["mountPath"] == "/chorus/source"]
    assert (source["name"], source["readOnly"]) == ("data", True)


def test_resuming_from_a_run_mounts_its_model() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    world.put(run("first"))
    world.train_to_the_end("first")
    world.put(run("second", resumeFrom={"run": "first"}))
    job = world.job(world.attempt("second"))
    assert job is not None
    mounts = job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    resume = next(mount for mount in mounts if mount["mountPath"] == str(contract.RESUME_DIR))
    assert resume["subPath"] == f"models/{world.run('first')['status']['model']['name']}"


SQL = {"sql": {"urlSecretKeyRef": {"name": "warehouse", "key": "dsn"}}}
S3 = {"uri": {"url": "s3://rooms/a.csv", "secretRef": {"name": "reader"}}}


def prepare_of(dataset: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The prepare pod of a dataset, and its configuration."""
    world = World()
    world.put(plugin(), project(dataset=dataset))
    [name] = world.jobs("prepare")
    job, config = world.job(name), world.kube.find(CONFIG_MAPS, name)
    assert job is not None
    assert config is not None
    return job["spec"]["template"]["spec"], json.loads(config["data"]["job.json"])


@pytest.mark.parametrize(
    ("dataset", "secret"),
    [
        ({"source": SQL, "query": "SELECT 1"}, {"secretName": "warehouse", "items": [{"key": "dsn", "path": "dsn"}]}),
        ({"source": S3}, {"secretName": "reader"}),
    ],
)
def test_a_source_elsewhere_is_given_its_secret_and_nothing_of_it_is_written_down(
    dataset: dict[str, Any], secret: dict[str, Any]
) -> None:
    pod, config = prepare_of(dataset)
    volume = next(each for each in pod["volumes"] if each["name"] == "source-secret")
    assert volume["secret"] == {**secret, "optional": True}, "a pod that never starts says nothing"
    mount = next(each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "source-secret")
    assert (mount["mountPath"], mount["readOnly"]) == (str(contract.SOURCE_SECRET_DIR), True)
    assert (config["secretDir"], config["secretName"]) == (str(contract.SOURCE_SECRET_DIR), secret["secretName"])
    assert "secret" not in str(pod["containers"][0]["env"]).casefold()
    assert PrepareConfig.model_validate(config).source_path == ""


def test_a_source_that_is_open_to_everyone_needs_no_secret() -> None:
    pod, config = prepare_of({"source": {"uri": {"url": "https://data.example/a.csv?sig=x", "sha256": "a" * 64}}})
    assert not any("secret" in volume for volume in pod["volumes"])
    assert "secretDir" not in config or config["secretDir"] is None
    assert config["sourceName"] == "https://data.example/a.csv"


@pytest.mark.parametrize("secret", ["warehouse", "warehouse-ca"])
def test_the_certificates_of_a_databases_authority_are_given_to_the_prepare_pod(secret: str) -> None:
    """Out of the Secret of the address or out of another, one key of it."""
    source = {"sql": {**SQL["sql"], "caSecretKeyRef": {"name": secret, "key": "root.pem"}}}
    pod, config = prepare_of({"source": source, "query": "SELECT 1"})
    volumes = {each["name"]: each.get("secret") for each in pod["volumes"]}
    items = [{"key": "root.pem", "path": "root.pem"}]
    assert volumes["source-ca"] == {"secretName": secret, "items": items, "optional": True}
    assert volumes["source-secret"]["items"] == [{"key": "dsn", "path": "dsn"}]
    mount = next(each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "source-ca")
    assert (mount["mountPath"], mount["readOnly"]) == (str(contract.SOURCE_CA_DIR), True)
    told = PrepareConfig.model_validate(config)
    assert (told.ca_dir, told.ca_key, told.ca_secret_name) == (str(contract.SOURCE_CA_DIR), "root.pem", secret)


def test_a_database_without_an_authority_of_its_own_is_given_no_certificates() -> None:
    pod, config = prepare_of({"source": SQL, "query": "SELECT 1"})
    assert "source-ca" not in {each["name"] for each in pod["volumes"]}
    assert PrepareConfig.model_validate(config).ca_key is None


def test_the_secret_of_a_source_is_in_no_pod_but_the_prepare_pod() -> None:
    world = World()
    world.put(plugin(), project(dataset={"source": S3}))
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    for role in ("train", "publish"):
        for name in world.jobs(role):
            assert "reader" not in str(world.job(name))


@pytest.mark.parametrize("code", [75, 64, 65, 69, 70, 137, 1, 3])
def test_the_failure_policy_and_the_reading_of_it_are_one_table(code: int) -> None:
    """Find the rule that Kubernetes would apply to the exit code, and read the Job's condition that it would write."""
    rules = JOBS["train"]["spec"]["podFailurePolicy"]["rules"]
    matches = [
        index
        for index, rule in enumerate(rules)
        if "onExitCodes" in rule
        and (code in rule["onExitCodes"]["values"]) is (rule["onExitCodes"]["operator"] == "In")
    ]
    condition = {
        "type": "Failed",
        "status": "True",
        "reason": "PodFailurePolicy",
        "message": f"Container trainer for pod a/b failed with exit code {code} "
        f"matching FailJob rule at index {matches[0]}",
    }
    job = job_view(
        {"metadata": {"name": "j", "uid": "u", "resourceVersion": "1"}, "status": {"conditions": [condition]}}
    )
    assert job is not None
    cause = outcome_of(job, None)
    expected = {75: "disruption", 70: "infrastructure", 137: "infrastructure"}.get(code, "user")
    assert cause.failure_class.value == expected
    assert cause.exit_code == code
    assert cause.not_applicable is (code == ExitCode.NOT_APPLICABLE)
