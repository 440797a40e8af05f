"""Take secrets out of text that will be stored or shown: logs, error messages, termination records."""

from __future__ import annotations

import re

MASK = "***"

# Every repetition is bounded or cannot overlap its neighbour, so that a long line costs linear time.
_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]|-(?!----)){0,20000}(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
)
# A password may hold "/" and "@" unescaped; a port may not be taken for one.
_URL_PASSWORD = re.compile(r"(://[^\s/:@]{0,256}:)(?!\d{1,5}(?:[/?#]|$))\S{1,512}@")
_URL_USER = re.compile(r"(://)[^\s/:@]{1,512}@")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)(\s{1,5})[A-Za-z0-9._~+/=-]{6,}")
_WELL_KNOWN = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}"  # AWS access keys
    r"|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)"  # JSON web tokens
)
# The special tokens of a tokenizer are no secrets.
_KEY_VALUE = re.compile(
    r"(?i)((?:passw(?:or)?d|passphrase|\bpwd|secret|(?<!eos_)(?<!bos_)(?<!pad_)(?<!unk_)(?<!sep_)(?<!cls_)(?<!mask_)token"
    r"|api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?key|private[_-]?key|account[_-]?key|signature|credentials?)"
    r"[\"']?\s{0,5}[=:]\s{0,5})"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;&\"'{}]+)"
)


def mask(text: str) -> str:
    """Replace what looks like a secret by `***`.

    Known are passwords and tokens in URLs, bearer and basic credentials, values of keys such as `password=`, `token:`
    and `secret`, access keys of AWS, tokens of hubs and code hosts, JSON web tokens, and private keys in PEM.
    """
    text = _PEM.sub(MASK, text)
    text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
    text = _URL_USER.sub(rf"\1{MASK}@", text)
    text = _AUTHORIZATION.sub(rf"\1\2{MASK}", text)
    text = _WELL_KNOWN.sub(MASK, text)
    return _KEY_VALUE.sub(rf"\1{MASK}", text)
