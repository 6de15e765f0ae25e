"""Landfast's own programs in their namespaces: two servers, agents, and the observer of a namespace's agents."""
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import links
from rig import Failed, until

TRUST_DOMAIN, PORT = "plant.test", 8081
FLEET = f"spiffe://{TRUST_DOMAIN}/fleet"
# Half of it is the time between two SVIDs of an entry. Servers' own SVIDs live longer, so that an outage of the database does not end them.
TTL, BACKDATE = 16, 5
# Debian's package libfaketime: of all clocks only this one can be another for one process.
FAKETIME = pathlib.Path("/usr/lib") / f"{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1"



class Daemon:
    def __init__(self, site, namespace, name):
        self.site, self.namespace, self.name, self.process, self.stopped = site, namespace, name, None, False
        self.dir = site.dir / name
        self.dir.mkdir()

    def launch(self, *command, **streams):
        with open(self.site.dir / f"{self.name}.log", "ab") as log:
            streams.setdefault("stdout", log)
            command = self.site.network.command(self.namespace, *command)
            self.process = subprocess.Popen(command, stderr=log, cwd=self.dir, start_new_session=True, **streams)
        self.stopped = False

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def end(self, number=signal.SIGTERM):
        if self.alive():
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)
        self.stopped = False

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        path.chmod(0o600)
        return path


class Server(Daemon):
    """One landfast-server. `datastore` is its table of the configuration, or nothing for SQLite."""

    def __init__(self, site, name, datastore):
        super().__init__(site, name, name)
        self.admin, self.refusal = self.dir / "admin.sock", ""
        self.config = self.write("server.toml", f"""
trust_domain = "{TRUST_DOMAIN}"
data_dir = "{self.dir}/data"
listen = ["0.0.0.0:{PORT}"]
admin_socket = "{self.admin}"
http_listen = "127.0.0.1:9102"
{datastore}
[ttl]
ca = "2h"
agent = "1h"
x509 = "10m"
backdate = "{BACKDATE}s"
[limits]
attestations_per_second = 1000
[log]
level = "info"
""")
        self.offset = 0
        # Time alone: what waits by the monotonic clock waits as ever.
        self.clock = [f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.dir / 'clock'}", "FAKETIME_NO_CACHE=1", "NO_FAKE_STAT=1",
                      "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DISABLE_SHM=1"]
        self.set_clock(0)
        links.within(site.network.name(name), self.poll)

    def set_clock(self, offset):
        """So many seconds beside the others, from now on."""
        self.offset = offset
        fresh = self.write("clock.new", f"{offset:+d}")
        os.replace(fresh, self.dir / "clock")

    def shows(self, act):
        """How many seconds its clock is beside ours, at least and at most, by what it writes into its log during `act`; nothing if it writes nothing."""
        log = self.site.dir / f"{self.name}.log"
        size, begun = log.stat().st_size, time.time()
        act()
        ended = time.time()
        with open(log, encoding="utf-8", errors="replace") as file:
            file.seek(size)
            stamp = re.search(r"^(\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6})Z", file.read(), re.MULTILINE)
        shown = stamp and datetime.datetime.fromisoformat(f"{stamp[1]}+00:00").timestamp()
        return shown and [round(shown - ended, 3), round(shown - begun, 3)]

    def start(self, wait=True):
        self.launch("env", *self.clock, self.site.bin / "landfast-server", "run", "--config", self.config)
        if wait:
            until(f"{self.name} answers on its admin socket", lambda: self.cli("debug", "info", check=False).returncode == 0)

    def accept_loss(self):
        """What an operator does when commits are gone for good."""
        command = self.site.network.command(self.namespace, self.site.bin / "landfast-server", "accept-loss", "--config", self.config)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed(f"accept-loss: {done.stdout}{done.stderr}")

    def cli(self, *words, check=True, seconds=15, output="json"):
        """A command of `landfast`. 124 when there was no answer."""
        command = [self.site.bin / "landfast", "--server-socket", self.admin, "--output", output, *map(str, words)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(command, 124, "", f"no answer in {seconds} s")
        if check and done.returncode != 0:
            raise Failed(f"landfast {' '.join(map(str, words))} on {self.name}: {done.stderr.strip()}")
        return done

    def ask(self, *words, or_else=None):
        """What a command answers, or nothing if it failed otherwise than with `or_else`. It must not take for ever, whatever the database does."""
        done = self.cli(*words, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        if or_else and or_else in done.stderr:
            return {}
        self.refusal = done.stderr
        self.site.history.add("refused", server=self.name, command=" ".join(map(str, words)), why=done.stderr.strip(), hung=done.returncode == 124)
        return None

    def poll(self):
        """Its readiness, written down when it changes."""
        before = None
        while not self.site.over.wait(0.2):
            try:
                with urllib.request.urlopen("http://127.0.0.1:9102/ready", timeout=1) as answer:
                    now = (True, answer.read(300).decode(errors="replace").strip())
            except urllib.error.HTTPError as refusal:
                now = (False, refusal.read(300).decode(errors="replace").strip())
            except OSError:
                now = (None, "no answer")
            if now != before:
                # Since when it is ready or not, whatever it says of that.
                since = self.site.ready[self.name][2] if before and before[0] is now[0] else time.time()
                self.site.ready[self.name] = (*now, since)
                self.site.history.add("ready", server=self.name, ready=now[0], text=now[1])
                before = now


class Agent(Daemon):
    """One landfast-agent that knows all servers, its own order of them, and enrols with a token."""

    def __init__(self, site, namespace, name, servers, token):
        super().__init__(site, namespace, name)
        self.socket = self.dir / "api.sock"
        self.id = f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}"
        addresses = ", ".join(f'"{site.network.links[namespace, server].address[server]}:{PORT}"' for server in servers)
        self.config = self.write("agent.toml", f"""
trust_domain = "{TRUST_DOMAIN}"
server = [{addresses}]
data_dir = "{self.dir}/data"
trust_bundle = "{site.bundle}"
socket = "{self.socket}"
admin_socket = "{self.dir}/admin.sock"
[attestation]
method = "join_token"
token = "{token}"
[sync]
interval = "1s"
retry_max = "1s"
[log]
level = "info"
""")

    def start(self):
        self.launch(self.site.bin / "landfast-agent", "run", "--config", self.config)

    def signed_by(self):
        """The key ID of the authority that signed the node's own SVID."""
        chain = json.loads((self.dir / "data/node-identity.json").read_text())["chain"]
        command = ["openssl", "x509", "-noout", "-ext", "authorityKeyIdentifier"]
        shown = subprocess.run(command, input=chain, capture_output=True, text=True, timeout=30).stdout
        return re.sub("[^0-9a-f]", "", shown.splitlines()[-1].lower().replace("keyid", "")) if shown else ""


class Observer(Daemon):
    """Watches the agents of its namespace, and redeems tokens with one key for each of them."""

    def __init__(self, site, namespace, agents):
        super().__init__(site, namespace, f"observer-{namespace}")
        places = [f"{agent.name}={agent.dir}" for agent in agents]
        self.launch(site.bin / "examples/partitions", site.bundle, *places, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.site.history.take(json.loads(line))

    def redeem(self, token, seconds, key=None, servers=None):
        """Through every server at once, until each has answered or the time is over."""
        names = servers or self.site.servers
        where = [f"{name}={self.site.network.links[self.namespace, name].address[name]}:{PORT}" for name in names]
        self.process.stdin.write(f"redeem {token} {key or self.namespace} {seconds} {' '.join(where)}\n".encode())
        self.process.stdin.flush()


class Site:
    """Everything that a run has. Nothing of it is left when it ends."""

    def __init__(self, network, folder, binaries, history):
        self.network, self.dir, self.bin, self.history = network, pathlib.Path(folder), pathlib.Path(binaries), history
        self.bundle = self.dir / "bundle.pem"
        self.servers, self.agents, self.observers, self.ready = {}, {}, {}, {}
        self.database, self.replica, self.over = None, None, threading.Event()

    def daemons(self):
        return [*self.servers.values(), *self.agents.values(), *self.observers.values()]

    def publish_bundle(self):
        """What a node that is enrolled now would be given. Any server that answers has it."""
        for server in self.servers.values():
            done = server.alive() and not server.stopped and server.cli("bundle", "show", check=False, seconds=5, output="table")
            if done and done.returncode == 0:
                fresh = self.bundle.with_suffix(".new")
                fresh.write_text(done.stdout)
                os.replace(fresh, self.bundle)
                return

    def remove(self):
        self.over.set()
        for daemon in self.daemons():
            daemon.end(signal.SIGKILL)
        for database in filter(None, (self.database, self.replica)):
            database.remove()
        self.network.remove()
