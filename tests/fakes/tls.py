"""A certificate authority for one test run, and fakes behind TLS that it vouches for."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gevent import ssl as gevent_ssl

from tests.fakes.upstream import Act, FakeUpstream, serving


@dataclass(frozen=True)
class Authority:
    """A certificate authority of this test run, and a server certificate that it signed for `localhost`."""

    bundle: Path
    server: Path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, is_ca: bool
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not is_ca:
        names = [x509.DNSName("localhost"), x509.DNSName("api.example.com")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def new_authority(directory: Path) -> Authority:
    """Make an authority, and a certificate for `localhost` and `api.example.com`."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Test CA", root_key, "Test CA", root_key, is_ca=True)
    leaf = _certificate("localhost", key, "Test CA", root_key, is_ca=False)
    pem = serialization.Encoding.PEM
    bundle, server = directory / "ca.pem", directory / "server.pem"
    bundle.write_bytes(root.public_bytes(pem))
    server.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + leaf.public_bytes(pem)
    )
    return Authority(bundle, server)


def secured(handle: Callable[[Any, Any], Any], context: Any) -> Callable[[Any, Any], None]:
    """Return a handler of connections that puts TLS before another one."""

    def handle_secured(sock: Any, address: Any) -> None:
        with closing(context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)) as wrapped:
            try:
                wrapped.do_handshake()
            except OSError:  # refused by the client
                return
            handle(wrapped, address)

    return handle_secured


def server_context(authority: Authority) -> Any:
    """Return what a server with the certificate makes its connections with."""
    context = gevent_ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server)
    return context


@dataclass
class TlsUpstream(FakeUpstream):
    """The same provider behind TLS; remembers which handshakes were short ones."""

    context: Any = None
    resumed: list[bool] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def handle(self, sock: Any, address: Any) -> None:
        # The handshake comes second: a socket whose making is broken off in mid-handshake is closed by nobody.
        with closing(self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)) as wrapped:
            try:
                wrapped.do_handshake()
            except OSError:  # refused by the client
                return
            self.resumed.append(wrapped.session_reused)
            super().handle(wrapped, address)


@contextmanager
def tls_upstream(authority: Authority, *acts: Act, version: ssl.TLSVersion | None = None) -> Iterator[TlsUpstream]:
    context = server_context(authority)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    upstream = TlsUpstream(list(acts), context=context)
    with serving(upstream.handle) as upstream.port:
        yield upstream
