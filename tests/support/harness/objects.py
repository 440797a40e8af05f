"""An S3 server for tests, which checks signatures: moto's, with its identity checks switched on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import botocore.session
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.server import ThreadedMotoServer

BUCKET = "measurements"
REGION = "eu-central-1"
_POLICY = """
{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
"""


@dataclass(frozen=True)
class Objects:
    """A server with one bucket, and keys that may read it."""

    url: str
    key: str
    secret: str
    client: Any

    def put(self, name: str, content: bytes) -> None:
        """Store an object."""
        self.client.put_object(Bucket=BUCKET, Key=name, Body=content)


@contextmanager
def serving_objects() -> Iterator[Objects]:
    """Serve on a loopback port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    before = settings.INITIAL_NO_AUTH_ACTION_COUNT
    try:
        yield _with_keys(url)
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = before
        server.stop()


def _with_keys(url: str) -> Objects:
    """Make the bucket and a user; from then on every request is checked."""
    iam = _client("iam", url, "first", "first")
    iam.create_user(UserName="reader")
    iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=_POLICY)
    keys = iam.create_access_key(UserName="reader")["AccessKey"]
    settings.INITIAL_NO_AUTH_ACTION_COUNT = ActionAuthenticatorMixin.request_count
    client = _client("s3", url, keys["AccessKeyId"], keys["SecretAccessKey"])
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return Objects(url, keys["AccessKeyId"], keys["SecretAccessKey"], client)


def _client(service: str, url: str, key: str, secret: str) -> Any:
    return botocore.session.get_session().create_client(
        service, REGION, endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret
    )
