"""A certificate authority of the tests' own."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

AGE = timedelta(days=1)


class Authority:
    """Signs certificates; everything lies in one folder, as ``<name>.crt`` and ``<name>.key``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "ca.crt"
        self._key = _new_key()
        self._name = _named("an authority of the tests")
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        made = self._begin(self._name, self._key).add_extension(usage, critical=True)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file.write_bytes(self._sign(made).public_bytes(Encoding.PEM))

    def serve(
        self, name: str, *hosts: str, age: timedelta = AGE, use: x509.ObjectIdentifier | None = None
    ) -> tuple[Path, Path]:
        """Make a certificate for a server, or without hosts for a client; return it and its key.

        It ends after ``age``, which may be in the past, and is good for ``use`` alone if given.
        """
        key = _new_key()
        made = self._begin(_named(name), key, age)
        if use is not None:
            made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_general(host) for host in hosts])
            made = made.add_extension(names, critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        path = self.folder / f"{name}.crt"
        path.write_bytes(self._sign(made).public_bytes(Encoding.PEM))
        return path, self._write_key(name, key)

    def key(self, name: str) -> Path:
        """Make a key of no certificate and return its file."""
        return self._write_key(name, _new_key())

    def _write_key(self, name: str, key: rsa.RSAPrivateKey) -> Path:
        path = self.folder / f"{name}.key"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        path.write_bytes(pem)
        return path

    def _begin(
        self, subject: x509.Name, key: rsa.RSAPrivateKey, age: timedelta = AGE
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + min(age, timedelta(0)) - timedelta(minutes=5))
            .not_valid_after(now + age)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(ours, False)
        )

    def _sign(self, made: x509.CertificateBuilder) -> x509.Certificate:
        return made.sign(self._key, hashes.SHA256())


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
