"""Network namespaces and the links between them, each of which can be cut by itself, in either way that a network has."""
import ctypes
import itertools
import os
import subprocess
import threading

from rig import Failed

CLONE_NEWNET = 0x40000000


def ip(*arguments):
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise Failed(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def within(namespace, what):
    """Starts a thread whose sockets are those of the namespace: it does `what()`."""

    def work():
        with open(f"/run/netns/{namespace}", "rb") as there:
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), CLONE_NEWNET) != 0:
                raise Failed(f"setns {namespace}: {os.strerror(ctypes.get_errno())}")
        what()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class Link:
    """A pair of veth devices: no carrier at one end when it is cut, or nothing arrives at either and nobody is told (`silent`)."""

    numbers = itertools.count(1)

    def __init__(self, network, a, b):
        self.network, self.ends, self.cut_by = network, (a, b), None
        number = next(self.numbers)
        self.address = {a: f"10.77.{number}.1", b: f"10.77.{number}.2"}
        self.device = {a: f"lf{number}a", b: f"lf{number}b"}
        ip("link", "add", self.device[a], "netns", network.name(a), "type", "veth", "peer", "name", self.device[b], "netns", network.name(b))
        for end in self.ends:
            ip("-n", network.name(end), "addr", "add", f"{self.address[end]}/30", "dev", self.device[end])
            ip("-n", network.name(end), "link", "set", self.device[end], "up")

    def cut(self, silent):
        if self.cut_by:
            return
        if silent:
            # A queue without a place takes every packet that is sent: the kernel may lack netem, but never this.
            for end in self.ends:
                self.tc(end, "replace", "pfifo", "limit", "0")
        else:
            ip("-n", self.network.name(self.ends[1]), "link", "set", self.device[self.ends[1]], "down")
        self.cut_by = "silent" if silent else "down"

    def restore(self):
        if self.cut_by == "silent":
            for end in self.ends:
                self.tc(end, "del")
        elif self.cut_by:
            ip("-n", self.network.name(self.ends[1]), "link", "set", self.device[self.ends[1]], "up")
        self.cut_by = None

    def tc(self, end, verb, *queue):
        command = ["tc", "-n", self.network.name(end), "qdisc", verb, "dev", self.device[end], "root", *queue]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """Namespaces that only this run has, and links between them."""

    def __init__(self):
        self.prefix, self.namespaces, self.links = f"landfast-{os.getpid()}-", [], {}

    def name(self, namespace):
        return self.prefix + namespace

    def add(self, namespace):
        ip("netns", "add", self.name(namespace))
        self.namespaces.append(namespace)
        ip("-n", self.name(namespace), "link", "set", "lo", "up")

    def connect(self, a, b):
        self.links[a, b] = Link(self, a, b)
        return self.links[a, b]

    def command(self, namespace, *words):
        """`words` run inside. `ip` becomes that program, so its process is the program's."""
        return ["ip", "netns", "exec", self.name(namespace), *map(str, words)]

    def remove(self):
        # The devices go with them.
        for namespace in self.namespaces:
            subprocess.run(["ip", "netns", "del", self.name(namespace)], capture_output=True, timeout=30)
        self.namespaces = []
