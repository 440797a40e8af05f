"""Service accounts' tokens as an API server makes them, and as a forger does. Signed by hand, without a JWT library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from chorus_api.contract import AUDIENCE
from fakes import FakeKube

ISSUER = "https://kubernetes.default.svc.cluster.local"
NOW = 1_767_225_600  # 2026-01-01 00:00 UTC
HOUR = 3600
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Claims = dict[str, Any]


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def integer(number: int, size: int) -> str:
    return encode(number.to_bytes(size, "big"))


@dataclass
class Signer:
    """A key of an issuer, and how it publishes it."""

    key_id: str = "key-1"
    algorithm: str = "ES256"
    key: Key = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.key is None:
            curve = CURVES.get(self.algorithm)
            self.key = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 2048)

    @property
    def jwk(self) -> Claims:
        head = {"use": "sig", "kid": self.key_id, "alg": self.algorithm}
        if isinstance(self.key, rsa.RSAPrivateKey):
            rsa_numbers = self.key.public_key().public_numbers()
            size = (rsa_numbers.n.bit_length() + 7) // 8
            return {**head, "kty": "RSA", "n": integer(rsa_numbers.n, size), "e": integer(rsa_numbers.e, 3)}
        numbers = self.key.public_key().public_numbers()
        size = (self.key.curve.key_size + 7) // 8
        curve = f"P-{self.key.curve.key_size}"
        return {**head, "kty": "EC", "crv": curve, "x": integer(numbers.x, size), "y": integer(numbers.y, size)}

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, text: bytes, algorithm: str) -> bytes:
        digest = _HASHES[algorithm[2:]]
        if isinstance(self.key, rsa.RSAPrivateKey):
            if algorithm.startswith("PS"):
                return self.key.sign(text, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
            return self.key.sign(text, padding.PKCS1v15(), digest)
        size = (self.key.curve.key_size + 7) // 8
        r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def token(self, claims: Claims | None = None, **header: Any) -> str:
        """Make a token; `header` replaces what is in its header (None removes it)."""
        head = {"alg": self.algorithm, "kid": self.key_id, **header}
        text = signing_input(head, pod_claims() if claims is None else claims)
        return f"{text}.{encode(self.sign(text.encode(), self.algorithm))}"


def signing_input(header: Claims, claims: Any) -> str:
    head = {name: value for name, value in header.items() if value is not None}
    return ".".join(encode(json.dumps(part).encode()) for part in (head, claims))


def pod_claims(**changes: Any) -> Claims:
    """What the API server says of a pod's token; None removes a claim."""
    claims = {
        "aud": [AUDIENCE],
        "exp": NOW + HOUR,
        "iat": NOW,
        "iss": ISSUER,
        "jti": "a1b2",
        "kubernetes.io": {
            "namespace": "default",
            "node": {"name": "node-1", "uid": "node-uid"},
            "pod": {"name": "pod-1", "uid": "pod-uid"},
            "serviceaccount": {"name": "chorus-run", "uid": "account-uid"},
        },
        "nbf": NOW,
        "sub": "system:serviceaccount:default:chorus-run",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def token_of(kube: FakeKube, signer: Signer, manifest: Claims) -> str:
    """Add a pod; the token of its service account, bound to it, as the API server makes it and reviews it."""
    pod = kube.put(manifest)
    metadata, account = pod["metadata"], pod["spec"]["serviceAccountName"]
    user = f"system:serviceaccount:{metadata['namespace']}:{account}"
    bound = {
        "namespace": metadata["namespace"],
        "pod": {key: metadata[key] for key in ("name", "uid")},
        "serviceaccount": {"name": account, "uid": "account-uid"},
    }
    token = signer.token(pod_claims(sub=user, **{"kubernetes.io": bound}))
    extra = {f"authentication.kubernetes.io/pod-{key}": [value] for key, value in bound["pod"].items()}
    kube.tokens[token] = {
        "authenticated": True,
        "audiences": [AUDIENCE],
        "user": {"username": user, "extra": extra},
    }
    return token


def hmac_token(secret: bytes, *, key_id: str, algorithm: str = "HS256") -> str:
    """Make a token signed with a shared secret: what takes a public key for one believes it."""
    text = signing_input({"alg": algorithm, "kid": key_id}, pod_claims())
    return f"{text}.{encode(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def unsigned_token(algorithm: str, *, key_id: str) -> str:
    """Make a token that says that it needs no signature."""
    return signing_input({"alg": algorithm, "kid": key_id}, pod_claims()) + "."


def discovery(*signers: Signer, issuer: str = ISSUER) -> tuple[Claims, Claims]:
    """Build the discovery document and the key set of an issuer."""
    configuration = {"issuer": issuer, "jwks_uri": "https://192.0.2.1/openid/v1/jwks"}
    return configuration, {"keys": [signer.jwk for signer in signers]}
