"""The commands of ``heros``."""

from __future__ import annotations

import click
from rich.console import Console

from heros.cli.secure import secure
from heros.demo.children import ChildFailed
from heros.demo.run import run
from heros.exceptions import HEROSError
from heros.version import __version__

__all__ = ["main"]


@click.group()
@click.version_option(__version__, prog_name="heros")
def main() -> None:
    """HEROs: objects that other processes and machines can use."""


@main.command()
@click.option(
    "--seconds",
    type=click.FloatRange(1, 20),
    default=8.0,
    show_default=True,
    help="How long the camera acquires, in all.",
)
def demo(seconds: float) -> None:
    """Share a camera and this machine's telemetry between processes, over shared memory and over the network.

    An acquisition process publishes frames as fast as it can; others call it, follow it, and check the checksum of
    every frame they get. The exit code is 0 only if every frame was intact, the frames missed as counted and as
    reported agree, and both transports were what they should be.
    """
    try:
        succeeded = run(seconds, Console())
    except (ChildFailed, HEROSError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if not succeeded:
        raise click.exceptions.Exit(1)


main.add_command(secure)
