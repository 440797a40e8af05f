"""A real control plane for tests: etcd, API server and controller manager alone, ready in about three seconds.

    with ControlPlane(kube_binaries()) as control_plane:
        await control_plane.install(crds)
        control_plane.start_controllers()

No node, no scheduler: pods are objects that never start. Objects are checked, defaulted, collected and authorised as
in any cluster. Nothing of it outlives the test process: the programs get SIGKILL when their parent dies.
"""

from __future__ import annotations

import base64
import ctypes
import functools
import json
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.client import Api, ApiError, Manifest, eventually, load_pair
from harness.pki import Authority, KeyPair, service_account_keys

HOST = "127.0.0.1"
START_SECONDS = 60.0
START_ATTEMPTS = 3
POLL_SECONDS = 0.05
AUDIT_MIB = 8192
"""Size of an audit log beyond which another is begun: no test gets there."""
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
)
_FIRST = ("Namespace", "CustomResourceDefinition")
_PR_SET_PDEATHSIG = 1


class StartError(RuntimeError):
    """A component did not come up; the message holds the end of its log."""


class ControlPlane:
    """A control plane. Use it as a context manager, or call `stop`."""

    def __init__(self, binaries: Path, *, audit_policy: Path | None = None) -> None:
        """Start etcd and the API server from the programs in `binaries`; StartError when they do not come up.

        `audit_policy`: which requests the API server writes into `audit_log`; none without it.
        """
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(prefix="chorus-api-", dir=memory if memory.is_dir() else None))
        self.authority = Authority("test-cluster")
        self.binaries = binaries
        self.audit_log = self.directory / "audit.log"
        """One JSON object a line; see `harness.audit_log`."""
        self._audit_policy = audit_policy
        self._processes: list[subprocess.Popen[bytes]] = []
        self._service_accounts = self.directory / "sa.key"
        self._service_accounts_public = self.directory / "sa.pub"
        try:
            self._write_keys()
            self._start_with_free_ports()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill every component and remove the data."""
        self._kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_controllers(self) -> None:
        """Start the controller manager. Install CRDs before: kinds that come later are collected half a minute late."""
        manager = self.authority.client("system:kube-controller-manager")
        kubeconfig = self.write_kubeconfig("controller-manager", _certificate_user(manager))
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._service_accounts}",
            f"--root-ca-file={self.directory}/ca.crt",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--concurrent-namespace-syncs=20",
        )

    @property
    def pids(self) -> dict[str, int]:
        """The processes, by program."""
        return {Path(str(process.args[0])).name: process.pid for process in self._processes}

    # Clients

    def api(self) -> Api:
        """Open a client with all rights: `async with control_plane.api() as api`."""
        return Api(self.admin_kubeconfig)

    async def kubeconfig_for(
        self, service_account: str, *, namespace: str, server: str | None = None, audience: str | None = None
    ) -> Path:
        """Write a kubeconfig of a service account, with a token of one hour; `server` may be a proxy."""
        token = await self.token_for(service_account, namespace=namespace, audience=audience)
        return self.write_kubeconfig(f"{namespace}-{service_account}", {"token": token}, server=server)

    async def token_for(
        self,
        service_account: str,
        *,
        namespace: str,
        audience: str | None = None,
        pod: Manifest | None = None,
        api: Api | None = None,
    ) -> str:
        """Ask for a token of a service account; with `pod`, one bound to that pod, as a projected volume holds.

        `api`: the client that asks; without it one is opened for this, and its connection with it.
        """
        spec: Manifest = {"expirationSeconds": 3600, "audiences": [audience] if audience else []}
        if pod is not None:
            bound = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", **bound}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        async with AsyncExitStack() as stack:
            asking = api or await stack.enter_async_context(self.api())
            answer = await asking.request("POST", path, body=request)
        token: str = answer["status"]["token"]
        return token

    def write_kubeconfig(self, name: str, user: dict[str, str], *, server: str | None = None) -> Path:
        """Write a kubeconfig (as JSON, which is YAML) of a user."""
        cluster = {"server": server or self.url, "certificate-authority-data": _base64(self.authority.pair.certificate)}
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path = Path(tempfile.mkstemp(prefix=f"{name}-", suffix=".kubeconfig", dir=self.directory)[1])
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    async def install(self, manifests: Iterable[Manifest]) -> None:
        """Apply manifests, namespaces and CRDs first; return when every CRD is served."""
        ordered = sorted(manifests, key=lambda manifest: manifest["kind"] not in _FIRST)
        async with self.api() as api:
            for manifest in ordered:
                await api.apply(manifest)
                if manifest["kind"] == "CustomResourceDefinition":
                    name = manifest["metadata"]["name"]
                    await api.wait_for("CustomResourceDefinition", name, is_established)
                    await eventually(functools.partial(_is_stored, api, manifest), what=f"{name} is stored")

    # Start

    def _write_keys(self) -> None:
        keys = service_account_keys()
        self._service_accounts.write_bytes(keys.key)
        self._service_accounts_public.write_bytes(keys.certificate)
        server = self.authority.server("kube-apiserver", hosts=(HOST, "localhost", "kubernetes.default.svc"))
        for name, pair in (("ca", self.authority.pair), ("server", server)):
            (self.directory / f"{name}.crt").write_bytes(pair.certificate)
            (self.directory / f"{name}.key").write_bytes(pair.key)
        self._admin = self.authority.client("admin", groups=("system:masters",))

    def _start_with_free_ports(self) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):  # somebody else may take a free port before we do
            etcd, peer, server = _free_ports(3)
            self.url = f"https://{HOST}:{server}"
            self.admin_kubeconfig = self.write_kubeconfig("admin", _certificate_user(self._admin))
            try:
                self._start(etcd=etcd, peer=peer, server=server)
            except StartError as error:
                if attempt == START_ATTEMPTS or "address already in use" not in str(error):
                    raise
                self._kill()
            else:
                return

    def _start(self, *, etcd: int, peer: int, server: int) -> None:
        store = f"http://{HOST}:{etcd}"
        own = f"http://{HOST}:{peer}"
        data = tempfile.mkdtemp(prefix="etcd-", dir=self.directory)
        self._run(
            "etcd",
            f"--data-dir={data}",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls={own}",
            f"--initial-advertise-peer-urls={own}",
            f"--initial-cluster=default={own}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self._wait(f"{store}/health", context=None)
        self._run(
            "kube-apiserver",
            f"--etcd-servers={store}",
            f"--bind-address={HOST}",
            f"--secure-port={server}",
            f"--advertise-address={HOST}",
            "--endpoint-reconciler-type=none",  # it would refuse a loopback address
            "--authorization-mode=RBAC",
            "--allow-privileged",  # as most clusters have it: what keeps such pods out is admission
            # Off by default, on in some clusters: a child may block its owner's deletion only with the right to it.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            f"--client-ca-file={self.directory}/ca.crt",
            f"--tls-cert-file={self.directory}/server.crt",
            f"--tls-private-key-file={self.directory}/server.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self._service_accounts_public}",
            f"--service-account-signing-key-file={self._service_accounts}",
            "--service-cluster-ip-range=10.96.0.0/16",
            *self._audit_flags(),
        )
        context = ssl.create_default_context(cadata=self.authority.pair.certificate.decode())
        load_pair(context, certificate=self._admin.certificate, key=self._admin.key)
        self._wait(f"{self.url}/readyz", context=context)

    def _audit_flags(self) -> Sequence[str]:
        if self._audit_policy is None:
            return ()
        return (
            f"--audit-policy-file={self._audit_policy}",
            f"--audit-log-path={self.audit_log}",
            f"--audit-log-maxsize={AUDIT_MIB}",
        )

    def _run(self, program: str, *arguments: str) -> None:
        with (self.directory / f"{program}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(self.binaries / program), *arguments],
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    preexec_fn=die_with_parent,
                )
            )

    def _wait(self, url: str, *, context: ssl.SSLContext | None) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            for process in self._processes:
                if process.poll() is not None:
                    raise StartError(self._explain(process.args, f"ended with {process.returncode}"))
            try:
                with urllib.request.urlopen(url, timeout=5, context=context):
                    return
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > end:
                    raise StartError(self._explain(self._processes[-1].args, f"{url}: {error}")) from error
            time.sleep(POLL_SECONDS)

    def _explain(self, arguments: Any, problem: str) -> str:
        program = Path(arguments[0]).name
        log = (self.directory / f"{program}.log").read_text(errors="replace")
        return f"{program} {problem} (of {self.binaries}). The end of its log:\n{log[-3000:]}"

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(timeout=30)
        self._processes.clear()


async def _is_stored(api: Api, definition: Manifest) -> bool:
    """Whether objects of the kind can be read: on a busy machine its store opens a moment after it is established."""
    spec = definition["spec"]
    try:
        await api.request("GET", f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
    except ApiError as error:
        if error.status in {404, 429}:
            return False
        raise
    return True


def is_established(definition: Manifest) -> bool:
    """Whether the API server serves the kind of a CustomResourceDefinition."""
    conditions = definition.get("status", {}).get("conditions") or []  # null at first
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)


def _free_ports(count: int) -> Sequence[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def _certificate_user(pair: KeyPair) -> dict[str, str]:
    return {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def die_with_parent() -> None:
    """Run between fork and exec: the kernel kills the component when the test process dies, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
