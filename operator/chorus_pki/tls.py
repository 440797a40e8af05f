"""TLS contexts of servers, from certificates that are in memory."""

from __future__ import annotations

import os
import ssl
import tempfile

from chorus_pki.certificates import Certificate


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Build the context of a server that takes TLS 1.2 and newer."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, certificate)
    return context


def load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Let a context serve with this certificate from the next connection on.

    OpenSSL's Python binding reads files only. On Linux the file is in memory; elsewhere, where the `chorus` command may
    run, it is nobody else's and gone in a moment.
    """
    content = certificate.chain + certificate.key
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as named:
            named.write(content)
            named.flush()
            context.load_cert_chain(named.name)
        return
    file = os.memfd_create("chorus-certificate")
    try:
        os.write(file, content)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
