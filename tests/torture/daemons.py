"""Landfast's own programs on a disk that can be lost: whatever is not to be lost with it lies beside it."""
import json
import os
import signal
import sqlite3
import subprocess
import time

import recorder

TRUST_DOMAIN = "plant.test"
LONG = "20h"
SERVER = """
trust_domain = "{domain}"
data_dir = "{disk}/server"
listen = ["127.0.0.1:{port}"]
admin_socket = "{dir}/server.sock"
[ttl]
agent = "20h"
x509 = "20h"
[reserve]
longest = "40h"
longest_token = "8h"
[root_key]
[limits]
attestations_per_second = 1000
[attestation.join_token]
enabled = true
"""
AGENT = """
trust_domain = "{domain}"
server = ["127.0.0.1:{port}"]
data_dir = "{agent}"
socket = "{dir}/public/api.sock"
admin_socket = "{dir}/agent.sock"
trust_bundle = "{beside}/bundle.pem"
[attestation]
method = "join_token"
token_file = "{beside}/token"
[sync]
retry_max = "1s"
"""


class Wrong(Exception):
    """Landfast has broken a rule: a result, and no fault of the rig."""


def must(what, so, seconds=20):
    """Waits until `so()` is true and returns what it returned; that it never is breaks a rule."""
    end = time.monotonic() + seconds
    while not (seen := so()):
        if time.monotonic() > end:
            raise Wrong(f"never within {seconds} s: {what}")
        time.sleep(0.01)
    return seen


class Place:
    """A machine: `disk` is what a cut of its power can spoil. What must not be lost lies in `beside`, which several may share. `aside`: the agent is
    on another machine, whose power stays."""

    def __init__(self, folder, binaries, port, beside=None, aside=False):
        self.dir, self.bin, self.port = folder, binaries, port
        self.disk, self.beside = folder / "disk", beside or folder
        self.agent = folder / "agent" if aside else self.disk / "agent"
        self.running, self.runs = {}, {"server": [], "agent": []}
        for path in (folder, self.disk, folder / "public"):
            path.mkdir(mode=0o755)
        self.disk.chmod(0o700)
        for name, written in (("server", SERVER), ("agent", AGENT)):
            words = {"domain": TRUST_DOMAIN, "disk": self.disk, "dir": folder, "port": port, "beside": self.beside, "agent": self.agent}
            (folder / f"{name}.toml").write_text(written.format(**words))

    def start(self, name, recorded=False, around=()):
        """`around` is a command that runs it."""
        command = [*around, self.bin / f"landfast-{name}", "run", "--config", self.dir / f"{name}.toml"]
        if recorded:
            trace = self.dir / f"{name}.{len(self.runs[name])}"
            self.runs[name].append(trace)
            command = recorder.command(trace, *command)
        with open(self.dir / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def stop(self, name, number=signal.SIGKILL):
        process = self.running.pop(name, None)
        if process is None:
            return
        for pid in children(process.pid) or [process.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Wrong(f"{name} does not end on signal {number}") from None

    def stop_all(self):
        for name in list(self.running):
            self.stop(name)

    def ended(self, name):
        return name not in self.running or self.running[name].poll() is not None

    def run(self, *words, output="json", seconds=20):
        sockets = ["--server-socket", self.dir / "server.sock", "--agent-socket", self.dir / "public/api.sock", "--agent-admin-socket", self.dir / "agent.sock"]
        command = [self.bin / "landfast", *sockets, "--output", output, *map(str, words)]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no answer in {seconds} s")

    def ask(self, *words):
        """What it answers, or nothing."""
        done = self.run(*words)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def tell(self, *words):
        """The same, where there must be an answer."""
        done = self.run(*words)
        if done.returncode != 0:
            raise Wrong(f"landfast {' '.join(map(str, words))}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def serves(self, name):
        """Whether it answers. That it has ended instead breaks a rule."""
        asked = self.ask("debug", "info", *(["--agent"] if name == "agent" else []))
        if asked is None and self.ended(name):
            raise Wrong(f"{name} does not start: {self.said(name)}")
        return asked

    def up(self, name):
        must(f"{name} answers", lambda: self.serves(name))

    def said(self, name, lines=3):
        return " / ".join((self.dir / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def rows(self, query, folder=None):
        """What the server's database says, whether or not it runs."""
        database = sqlite3.connect(f"file:{folder or self.disk}/server/landfast.db?mode=ro", uri=True, timeout=10)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def authority(self, kind, standing):
        return next(one["id"] for one in self.tell("authority", "show") if (one["kind"], one["standing"]) == (kind, standing))

    def rotate(self, kind, *verbs):
        """Whoever does not know the new one yet is not waited for."""
        old = self.authority(kind, "active")
        self.tell("authority", "prepare", kind)
        self.tell("authority", "activate", kind, self.authority(kind, "prepared"), *(["--unheard"] if kind == "x509" else []))
        for verb in verbs:
            self.tell("authority", verb, kind, old)

    def publish_bundle(self):
        (self.beside / "bundle.pem").write_text(self.run("bundle", "show", output="table").stdout)


def children(pid):
    """What strace runs."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


class Redeemer:
    """Attests with join tokens, as nodes do, and keeps each node's key: `tests/examples/partitions`."""

    def __init__(self, place):
        self.place, self.process = place, None
        command = [place.bin / "examples/partitions", place.beside / "bundle.pem"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def redeem(self, tokens, port, seconds=10):
        """For each (token, name of a key): "ok", or with which code it was refused, and the serial number or the reason."""
        for token, key in tokens:
            self.process.stdin.write(f"redeem {token} {key} {seconds} s=127.0.0.1:{port}\n")
        self.process.stdin.flush()
        found = {}
        while len(found) < len(tokens):
            line = self.process.stdout.readline()
            if not line:
                raise Wrong("the program that redeems tokens has ended")
            said = json.loads(line)
            if said["kind"] == "redeem" and said["last"]:
                found[said["token"], said["key"]] = (said["result"], said["what"])
        return found

    def end(self):
        self.process.kill()
        self.process.wait()
