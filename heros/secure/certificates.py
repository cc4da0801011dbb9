"""An authority of one's own and the certificates that it issues, by the package ``cryptography``. No I/O.

Keys are on the curve P-256: small, fast, and known to every TLS library. A member's certificate serves both ends of a
connection, as each HEROS process both connects and is connected to. Its common name is what Zenoh's access control goes
by; its alternative names are what a connecting process compares with the address that it connects to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from heros.exceptions import HEROSError
from heros.secure.members import is_address

__all__ = ["Certified", "Described", "describe", "issue", "new_authority"]

BACKDATE: Final = timedelta(hours=1)
"""Clocks of a lab may differ by so much: a certificate is valid from this long before it is made."""

TOLERANCE: Final = timedelta(hours=1)
"""A certificate that was to be valid for as long as its authority is made later, and may expire earlier by so much."""


@dataclass(frozen=True)
class Certified:
    """A certificate and its private key, in PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Described:
    """What a certificate says."""

    name: str
    serial: str
    begins: datetime
    expires: datetime


def new_authority(name: str, days: float) -> Certified:
    """A certificate authority that signs members' certificates, and no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _certified(certificate, key)


def issue(authority: Certified, name: str, hosts: Sequence[str], days: float) -> Certified:
    """A certificate for ``name``, reachable as ``hosts``, with a new key.

    Raises:
        HEROSError: the authority cannot be read, or expires before the certificate would.
    """
    issuer, issuer_key = _read(authority)
    now = datetime.now(UTC)
    expires = now + timedelta(days=days)
    if expires > issuer.not_valid_after_utc + TOLERANCE:
        raise HEROSError(
            f"a certificate for {days:g} days would outlive the authority, which expires on "
            f"{issuer.not_valid_after_utc:%Y-%m-%d}. Choose fewer days, or begin a new set-up in another directory"
        )
    expires = min(expires, issuer.not_valid_after_utc)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, expires) - BACKDATE)
        .not_valid_after(expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, hosts))), critical=False)
    return _certified(builder.sign(issuer_key, hashes.SHA256()), key)


def describe(pem: bytes, authority: bytes | None = None) -> Described:
    """What a certificate in PEM says.

    Args:
        authority: the certificate of the authority that must have issued it.

    Raises:
        HEROSError: it is no certificate, or not of this authority.
    """
    certificate = _certificate(pem)
    if authority is not None:
        try:
            certificate.verify_directly_issued_by(_certificate(authority))
        except (ValueError, TypeError, InvalidSignature):
            raise HEROSError("the certificate is not of this authority") from None
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Described(
        name=str(names[0].value) if names else "",
        serial=f"{certificate.serial_number:x}",
        begins=certificate.not_valid_before_utc,
        expires=certificate.not_valid_after_utc,
    )


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise HEROSError(f"not a certificate in PEM: {error}") from None


def _read(authority: Certified) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(authority.certificate)
    try:
        key = serialization.load_pem_private_key(authority.key, password=None)
    except (ValueError, TypeError) as error:
        raise HEROSError(f"the authority's key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise HEROSError("the authority's key does not belong to its certificate")
    return certificate, key


def _certified(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certified:
    return Certified(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(host)) if is_address(host) else x509.DNSName(host)


def _usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
