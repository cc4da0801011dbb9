"""``heros secure``: certificates and Zenoh configurations, by :mod:`heros.secure`.

What needs the package ``cryptography`` is imported when a command runs, so that every other command, and ``--help``,
works without it.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from heros.exceptions import HEROSError
from heros.secure.configuration import CA_KEY_FILE, CONFIG_FILE
from heros.secure.members import MEMBER, ROLES, ROUTER, Member

if TYPE_CHECKING:
    from heros.secure.directory import Setup, State

__all__ = ["secure"]

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_REALM: Final = "heros"
PORT: Final = 7447
"""Zenoh's own, on which firewalls may already let it pass."""
SOON: Final = timedelta(days=30)


def _each_once(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


_days = click.FloatRange(min=0, min_open=True, max=36500)
_port = click.IntRange(0, 65535)
_in_directory = click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the set-up is.  [default: the current directory]",
)
_certificate_days = click.option(
    "--days", type=_days, default=365.0, show_default=True, help="How long the certificate is valid."
)


def _tells_errors(command: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if importlib.util.find_spec("cryptography") is None:
            raise click.ClickException('this needs the package cryptography. Install it: pip install "heros[secure]"')
        try:
            return command(*args, **kwargs)
        except (HEROSError, OSError) as error:
            raise click.ClickException(str(error)) from None

    return wrapper


def _open(directory: Path) -> Setup:
    from heros.secure.directory import Setup

    return Setup(directory.absolute())


@click.group()
def secure() -> None:
    """Keep strangers out of your realms: certificates, TLS and access control for Zenoh.

    `init` makes an authority and a certificate for this computer; `add` makes one for each further computer, person
    or router. Each gets a directory with its certificate, its key and a Zenoh configuration, which is named in
    HEROS_ZENOH_CONFIG. Without such a certificate nobody finds or calls a HERO over the network.
    """


@secure.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--realm",
    "realms",
    multiple=True,
    callback=_each_once,
    help=f"A realm to secure; may be repeated.  [default: {DEFAULT_REALM}]",
)
@click.option("--name", help="What this computer is called here.  [default: its host name]")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    callback=_each_once,
    help="DNS name or IP address of this computer; may be repeated.  [default: its address and its host name]",
)
@click.option("--port", type=_port, default=PORT, show_default=True, help="Where this computer is met by the others.")
@_certificate_days
@click.option(
    "--authority-days", type=_days, default=3650.0, show_default=True, help="How long the authority is valid."
)
@click.option("--authority-only", is_flag=True, help="Make no certificate for this computer.")
@_tells_errors
def init(
    directory: Path,
    realms: tuple[str, ...],
    name: str | None,
    hosts: tuple[str, ...],
    port: int,
    days: float,
    authority_days: float,
    authority_only: bool,
) -> None:
    """Make a set-up in DIRECTORY, which must be new or empty.

    It has an authority, which signs certificates, and a certificate for this computer, where the others meet.
    """
    from heros.secure.directory import Setup

    if authority_only and (name or hosts):
        raise click.UsageError("--name and --host are for the certificate that --authority-only does not make")
    if days > authority_days:
        raise click.UsageError(f"the authority ({authority_days:g} days) must be valid for as long as the certificate")
    member = None
    if not authority_only:
        member = Member(
            name=name or _own_name(),
            role=MEMBER,
            realms=realms or (DEFAULT_REALM,),
            hosts=hosts or _own_hosts(),
            port=port,
        )
    directory = directory.absolute()
    setup = Setup.create(directory, realms or (DEFAULT_REALM,), authority_days)
    click.echo(
        f"The authority for {_list('realm', setup.realms)} is in {directory}. Whoever has its key can make members:"
    )
    click.echo(f"keep {directory / CA_KEY_FILE} where only you can read it, and a copy in a safe place.")
    if member is not None:
        setup.add(member, days)
        click.echo()
        _tell_added(setup, member)


@secure.command()
@click.argument("name")
@_in_directory
@click.option(
    "--host",
    "hosts",
    multiple=True,
    callback=_each_once,
    help="DNS name or IP address under which others reach it; may be repeated. Without, nobody connects to it, and it "
    "reaches the others through one meeting point or router.",
)
@click.option(
    "--port",
    type=_port,
    default=0,
    help="Make it a meeting point, to which all others connect on this port.  [default: none]",
)
@click.option("--role", type=click.Choice(ROLES), default=MEMBER, show_default=True, help="What others let it do.")
@click.option(
    "--realm", "realms", multiple=True, callback=_each_once, help="Only these realms; may be repeated.  [default: all]"
)
@click.option(
    "--path",
    default="",
    help=f"Where its files will lie on its computer.  [default: beside {CONFIG_FILE}, wherever it is]",
)
@_certificate_days
@_tells_errors
def add(
    name: str,
    directory: Path,
    hosts: tuple[str, ...],
    port: int,
    role: str,
    realms: tuple[str, ...],
    path: str,
    days: float,
) -> None:
    """Make a certificate for NAME: one more computer, person or router.

    The configurations of all others are written anew, as they say who NAME is and what it may do.

    \b
    member    offers, finds and calls HEROs
    observer  sees which HEROs there are, and nothing else
    router    passes on what others say
    """
    setup = _open(directory)
    member = Member(name, role, realms or setup.realms, hosts, port or (PORT if role == ROUTER else 0), path)
    setup.add(member, days)
    _tell_added(setup, member)


@secure.command()
@_in_directory
@click.option("--within", type=click.FloatRange(min=0), help="Exit with 1 if anything expires within so many days.")
@_tells_errors
def show(directory: Path, within: float | None) -> None:
    """List the certificates, and when they expire.

    The exit code is 0, or with --within 1 if one of them (or the authority) has expired, soon does, or is not usable.
    """
    setup = _open(directory)
    now = datetime.now(UTC)
    authority, states = setup.authority(), setup.show()
    rows: list[tuple[str, ...]] = [("NAME", "ROLE", "REALMS", "REACHED AS", "EXPIRES", "")]
    rows += [_row(state, now) for state in states]
    end = authority.expires
    rows.append(("(authority)", "", " ".join(setup.realms), "", f"{end:%Y-%m-%d}", _hint(end, now)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if within is not None:
        until = now + timedelta(days=within)
        usable = (not state.problem and state.certificate and state.certificate.expires > until for state in states)
        if end <= until or not all(usable):
            raise click.exceptions.Exit(1)


@secure.command()
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Everybody.")
@_in_directory
@click.option(
    "--host",
    "hosts",
    multiple=True,
    callback=_each_once,
    help="New DNS names and IP addresses; may be repeated.  [default: as before]",
)
@_certificate_days
@_tells_errors
def renew(names: tuple[str, ...], everybody: bool, directory: Path, hosts: tuple[str, ...], days: float) -> None:
    """Make a new key and a new certificate for each NAME.

    The old ones work until they expire. Copy the new files to their computers, and restart the programs there.
    """
    if bool(names) == everybody:
        raise click.UsageError("give names, or --all")
    if hosts and (everybody or len(names) != 1):
        raise click.UsageError("--host is for one NAME")
    setup = _open(directory)
    for name in names or tuple(setup.members):
        setup.renew(name, days, hosts or None)
        click.echo(
            f"{name} has a new certificate. Copy {setup.directory / name} to its computer, and restart its programs."
        )
    if hosts:
        _tell_others(setup, names)


@secure.command()
@click.argument("name")
@_in_directory
@_tells_errors
def remove(name: str, directory: Path) -> None:
    """Take all rights from NAME, and delete its files here.

    Its certificate stays valid until it expires; it is the others' configurations, which are written anew, that no
    longer know its name.
    """
    setup = _open(directory)
    setup.remove(name)
    click.echo(f"{name} is removed. It can do what it could until the others have their new configurations.")
    _tell_others(setup, ())


def _row(state: State, now: datetime) -> tuple[str, ...]:
    hosts = " ".join(state.hosts) + (f" port {state.port}" if state.port else "")
    expires = "-" if state.certificate is None else f"{state.certificate.expires:%Y-%m-%d}"
    hint = state.problem or ("" if state.certificate is None else _hint(state.certificate.expires, now))
    return state.name, state.role, " ".join(state.realms), hosts or "-", expires, hint


def _hint(expires: datetime, now: datetime) -> str:
    if expires <= now:
        return "has expired"
    return f"in {(expires - now).days} days" if expires - now < SOON else ""


def _tell_added(setup: Setup, member: Member) -> None:
    directory = setup.directory / member.name
    if member.role == ROUTER:
        click.echo(f"Router {member.name} listens on {member.addresses[0]}, port {member.port}.")
        click.echo(f"Copy {directory} to its computer, and start it in that directory: zenohd --config {CONFIG_FILE}")
    else:
        reached = f"is met on {member.hosts[0]}, port {member.port}" if member.port else "connects to the others"
        there = Path(member.directory) if member.directory else directory
        click.echo(f"{member.role.capitalize()} {member.name} {reached}.")
        click.echo(f"Copy {directory} to its computer, unless that is this one, and set, for the programs there,")
        click.echo(f"  HEROS_ZENOH_CONFIG={there / CONFIG_FILE}")
    _tell_others(setup, (member.name,))


def _tell_others(setup: Setup, but: Iterable[str]) -> None:
    others = [f"{name}/{CONFIG_FILE}" for name in setup.members if name not in but]
    if others:
        click.echo(
            f"These are new too: copy them to their computers, and restart the programs there: {' '.join(others)}"
        )


def _list(what: str, names: Iterable[str]) -> str:
    names = list(names)
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _own_name() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0]).strip("-") or "this-computer"


def _own_hosts() -> tuple[str, ...]:
    """The address that this computer has towards others, and its host name."""
    hosts = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", PORT))  # sends nothing: it only chooses the interface
            hosts.append(str(probe.getsockname()[0]))
        except OSError:
            pass  # no network, or none of IPv4
    name = socket.gethostname()
    return (*hosts, name)
