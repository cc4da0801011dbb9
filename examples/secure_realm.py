"""A realm behind certificates: who has one finds the camera and takes a picture, who has none finds nothing.

It does on one computer what you would do on three: `heros secure` makes the certificates, and each program gets its
own by HEROS_ZENOH_CONFIG. Directories of their own (HEROS_RUNTIME_DIR) keep the programs from meeting without the
network, as those of one user on one computer otherwise do. Needs `pip install "heros[secure]"`.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

CAMERA = """
import sys
from heros import LocalHERO

class Camera(LocalHERO):
    def take(self) -> str:
        return "a picture"

with Camera("camera", realm="lab"):
    print("the camera is there", flush=True)
    sys.stdin.read()
"""

VIEWER = """
from heros import HEROObserver, RemoteHERO
from heros.exceptions import HEROUnavailable

try:
    print("the viewer got", RemoteHERO("camera", realm="lab", wait=WAIT).take())
except HEROUnavailable:
    print("the viewer got nothing, and sees", list(HEROObserver("lab").known_objects))
"""


def secure(*arguments):
    subprocess.run([sys.executable, "-m", "heros", "secure", *arguments], check=True, stdout=subprocess.DEVNULL)


def start(program, computer, config):
    """Run a program as on a computer of its own."""
    environment = {
        **os.environ,
        "HEROS_RUNTIME_DIR": str(computer),
        "HEROS_ZENOH_CONFIG": str(config),
        "HEROS_NET": "on",
    }
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        lab, port = Path(directory, "lab"), free_port()

        # The authority, and a certificate for the camera's computer, where the others meet.
        secure("init", str(lab), "--realm", "lab", "--name", "camera-pc", "--host", "127.0.0.1", "--port", str(port))
        secure("add", "office-pc", "--directory", str(lab))

        # A stranger knows where the camera is, but has no certificate.
        stranger = json.dumps(
            {
                "connect": {"endpoints": [f"tls/127.0.0.1:{port}"], "timeout_ms": -1, "exit_on_failure": False},
                "listen": {"endpoints": []},
                "scouting": {"multicast": {"enabled": False}},
                "transport": {"link": {"tls": {"root_ca_certificate": str(lab / "ca.pem")}}},
            }
        )

        camera = start(CAMERA, Path(directory, "1"), lab / "camera-pc/zenoh.json5")
        print(camera.stdout.readline(), end="")
        viewer = start(VIEWER.replace("WAIT", "60"), Path(directory, "2"), lab / "office-pc/zenoh.json5")
        print("with a certificate:", viewer.communicate()[0], end="")
        viewer = start(VIEWER.replace("WAIT", "3"), Path(directory, "3"), stranger)
        print("without:", viewer.communicate()[0], end="")
        camera.communicate()
