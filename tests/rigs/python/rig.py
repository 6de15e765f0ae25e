"""What the rigs in Python share: how they wait, find free ports, and find PostgreSQL and a user for it. Those that use it put this folder into
`sys.path`."""
import pathlib
import pwd
import socket
import time


class Failed(Exception):
    """A step of the rig did not go as it should; the message says which, and what was seen. Never a result."""


def until(what, so, seconds=40, every=0.1):
    """Waits, with a bound, until `so()` is true, and returns what it returned."""
    end = time.monotonic() + seconds
    while not (seen := so()):
        if time.monotonic() > end:
            raise Failed(f"never happened: {what}")
        time.sleep(every)
    return seen


def free_ports(count):
    """All different: each is held until the last is found."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_port():
    return free_ports(1)[0]


def postgres_binaries():
    """The folder of `initdb` and `postgres`, the newest version that Debian has installed, or nothing."""
    version = lambda place: int(place.parent.name) if place.parent.name.isdigit() else 0
    debian = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    for place in [*(one for one in debian if version(one) >= 15), pathlib.Path("/usr/local/bin")]:
        if all((place / name).exists() for name in ("initdb", "postgres")):
            return place
    return None


def postgres_user():
    """PostgreSQL refuses to run as root."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Failed("neither a user postgres nor nobody: PostgreSQL refuses to run as root")
