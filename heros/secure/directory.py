"""A set-up on disk: an authority, and for each member what is to be copied to its machine.

::

    DIRECTORY/               0700
      setup.json             who takes part: what `heros secure` knows
      ca.pem                 the authority's certificate
      ca-key.pem       0600  the authority's key. Who has it can make members
      NAME/            0700  one for each member; the four files belong together and are all that it needs
        ca.pem
        cert.pem
        key.pem        0600
        zenoh.json5          Zenoh's configuration, for HEROS_ZENOH_CONFIG. It names the other three files

Rules
    - Every file is written aside and renamed into place; a private key is never readable by others, not for a moment.
    - ``setup.json`` is written last, and a directory that it does not name is never written to.
    - A removed member's name is not given again while a certificate of that name is valid, because access control goes
      by the name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from heros.exceptions import HEROSError
from heros.secure import certificates
from heros.secure.certificates import Certified, Described
from heros.secure.configuration import (
    CA_FILE,
    CA_KEY_FILE,
    CERTIFICATE_FILE,
    CONFIG_FILE,
    KEY_FILE,
    as_text,
    configuration,
)
from heros.secure.members import Member, check_realm

__all__ = ["Setup", "State"]

SETUP_FILE: Final = "setup.json"
FORMAT: Final = 1


@dataclass(frozen=True)
class State:
    """One line of ``heros secure show``."""

    name: str
    role: str
    realms: tuple[str, ...]
    hosts: tuple[str, ...]
    port: int
    certificate: Described | None
    """None when it cannot be read."""
    problem: str = ""


class Setup:
    """A set-up, read from its directory; each method that changes it writes it.

    Raises:
        HEROSError: there is none in ``directory``, or it cannot be understood.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            fields = json.loads((directory / SETUP_FILE).read_text())
            if fields["format"] != FORMAT:
                raise HEROSError(f"it has format {fields['format']}, which this version of heros does not know")
            self.realms = tuple(map(check_realm, fields["realms"]))
            self.members = {member.name: member for member in map(Member.from_dict, fields["members"])}
            self._valid_until = {
                str(name): datetime.fromisoformat(until) for name, until in fields["valid_until"].items()
            }
            """For each name, also of members that were removed: when the last certificate of it expires."""
        except FileNotFoundError:
            raise HEROSError(
                f"there is no set-up in {directory}. Make one with `heros secure init DIRECTORY`, or say where it is "
                "with --directory"
            ) from None
        except (ValueError, LookupError, TypeError, AttributeError, HEROSError) as error:
            raise HEROSError(f"{directory / SETUP_FILE} cannot be understood: {error}") from None

    @classmethod
    def create(cls, directory: Path, realms: Iterable[str], days: float) -> Setup:
        """A set-up without members in ``directory``, which is made if it is missing.

        Raises:
            HEROSError: there is one already, or the directory holds something else.
        """
        names = list(dict.fromkeys(map(check_realm, realms)))
        if (directory / SETUP_FILE).exists():
            raise HEROSError(f"{directory} holds a set-up already; nothing was changed")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise HEROSError(f"{directory} is not empty; nothing was changed. Give a new directory")
        directory.chmod(0o700)
        authority = certificates.new_authority(f"heros authority for {', '.join(names)}"[:64], days)
        _write(directory / CA_FILE, authority.certificate)
        _write(directory / CA_KEY_FILE, authority.key, private=True)
        fields = {"format": FORMAT, "realms": names, "members": [], "valid_until": {}}
        _write(directory / SETUP_FILE, _to_json(fields))
        return cls(directory)

    # -- changes ----------------------------------------------------------------------------------------------

    def add(self, member: Member, days: float) -> None:
        """Issue a certificate for a new member, and write the configurations of all.

        Raises:
            HEROSError: the name is taken or must not be used again yet, or the member makes no sense.
        """
        if member.name in self.members:
            raise HEROSError(f"{member.name} exists already; `heros secure renew` gives it a new certificate")
        if (directory := self.directory / member.name).exists():
            raise HEROSError(f"{directory} exists already, and is not of a member; nothing was changed")
        until = self._valid_until.get(member.name)
        if until is not None and until > datetime.now(UTC):
            raise HEROSError(
                f"{member.name} was removed, and certificates of that name are valid until {until:%Y-%m-%d}: a new "
                "member of the name would give them their rights back. Choose another name"
            )
        if unknown := [realm for realm in member.realms if realm not in self.realms]:
            raise HEROSError(f"this set-up has no realm {', '.join(unknown)}; it has {', '.join(self.realms)}")
        self._issue(member, days)

    def renew(self, name: str, days: float, hosts: Iterable[str] | None = None) -> None:
        """A new key and a new certificate for a member. Its old certificate stays valid until it expires.

        Args:
            hosts: other names and addresses than before.

        Raises:
            HEROSError: there is no such member.
        """
        member = self._member(name)
        if hosts is not None:
            member = replace(member, hosts=tuple(hosts))
        self._issue(member, days)

    def remove(self, name: str) -> None:
        """Take a member out of all configurations, and delete its files.

        Raises:
            HEROSError: there is no such member.
        """
        self._member(name)
        del self.members[name]
        self._save()
        shutil.rmtree(self.directory / name, ignore_errors=True)

    # -- what there is ----------------------------------------------------------------------------------------

    def authority(self) -> Described:
        """The authority's certificate. Raises ``HEROSError``."""
        return certificates.describe(_read(self.directory / CA_FILE))

    def show(self) -> list[State]:
        """Every member, with what its certificate says."""
        return [self._state(member) for member in self.members.values()]

    def _state(self, member: Member) -> State:
        described, problem = None, ""
        try:
            described = certificates.describe(
                _read(self.directory / member.name / CERTIFICATE_FILE), _read(self.directory / CA_FILE)
            )
            if described.name != member.name:
                problem = f"the certificate is of {described.name}"
        except HEROSError as error:
            problem = str(error)
        return State(member.name, member.role, member.realms, member.hosts, member.port, described, problem)

    def _member(self, name: str) -> Member:
        if name not in self.members:
            there = ", ".join(self.members) or "none"
            raise HEROSError(f"this set-up has no member {name}; it has {there}")
        return self.members[name]

    # -- files ------------------------------------------------------------------------------------------------

    def _issue(self, member: Member, days: float) -> None:
        authority = Certified(_read(self.directory / CA_FILE), _read(self.directory / CA_KEY_FILE))
        certified = certificates.issue(authority, member.name, member.hosts, days)
        directory = self.directory / member.name
        directory.mkdir(mode=0o700, exist_ok=True)
        _write(directory / CA_FILE, authority.certificate)
        _write(directory / KEY_FILE, certified.key, private=True)
        _write(directory / CERTIFICATE_FILE, certified.certificate)
        expires = certificates.describe(certified.certificate).expires
        self._valid_until[member.name] = max(expires, self._valid_until.get(member.name, expires))
        self.members[member.name] = member
        self._save()

    def _save(self) -> None:
        for member in self.members.values():
            others = [other for other in self.members.values() if other is not member]
            _write(self.directory / member.name / CONFIG_FILE, as_text(member, configuration(member, others)).encode())
        fields = {
            "format": FORMAT,
            "realms": self.realms,
            "members": [member.to_dict() for member in self.members.values()],
            "valid_until": {name: until.isoformat() for name, until in self._valid_until.items()},
        }
        _write(self.directory / SETUP_FILE, _to_json(fields))


def _to_json(fields: object) -> bytes:
    return json.dumps(fields, indent=2).encode() + b"\n"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HEROSError(f"{path} cannot be read: {error.strerror}") from None


def _write(path: Path, data: bytes, private: bool = False) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
