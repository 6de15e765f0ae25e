"""A real server and a real agent on one machine, the agent's clocks its own. What the rigs of islands share."""
import glob
import json
import os
import signal
import subprocess

from rig import Failed, free_ports, until

TRUST_DOMAIN = "plant.test"
LIBRARY = "/usr/lib/*/faketime/libfaketimeMT.so.1"
SERVER = """
trust_domain = "plant.test"
data_dir = "{dir}/server"
listen = ["{address}:{port}"]
admin_socket = "{dir}/admin.sock"
[attestation.join_token]
enabled = true
{more}
"""
AGENT = """
trust_domain = "plant.test"
server = ["{address}:{port}"]
data_dir = "{disk}"
socket = "{dir}/public/api.sock"
admin_socket = "{dir}/private/admin.sock"
trust_bundle = "{dir}/bundle.pem"
http_listen = "127.0.0.1:{http}"
[attestation]
method = "join_token"
token_file = "{dir}/token"
[sync]
retry_max = "1s"
{more_agent}
"""


def library():
    found = next(iter(glob.glob(LIBRARY)), None)
    if found is None:
        raise SystemExit("error: libfaketime is missing\nhint: apt-get install faketime")
    return found


class Site:
    """`disk` is the agent's data directory: within `folder` unless said otherwise."""

    def __init__(self, folder, binaries, more="", disk=None, more_agent="", address="127.0.0.1"):
        self.dir, self.bin, self.disk = folder, binaries.resolve(), disk or folder / "agent"
        self.port, self.http = free_ports(2)
        self.running = {}
        self.clock = folder / "clock"
        for name in ("public", "private"):
            (folder / name).mkdir(mode=0o755)
        for name, text in (("server", SERVER), ("agent", AGENT)):
            words = {"dir": folder, "disk": self.disk, "address": address, "port": self.port, "http": self.http, "more": more, "more_agent": more_agent}
            (folder / f"{name}.toml").write_text(text.format(**words))

    def start(self, name, around=(), **env):
        command = [*map(str, around), self.bin / f"landfast-{name}", "run", "--config", self.dir / f"{name}.toml"]
        with open(self.dir / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ, **env), start_new_session=True)

    def start_agent_at(self, text, around=(), **env):
        """Its wall clock as libfaketime reads `text`, from a file that may be changed under way."""
        self.set(text)
        fake = {"LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_NO_CACHE": "1", "TZ": "UTC", **env}
        # Not the program around it, whose clock is the machine's.
        self.start("agent", around=[*around, "env", *(f"{name}={value}" for name, value in fake.items())])

    def set(self, text):
        new = self.clock.with_suffix(".new")
        new.write_text(text + "\n")
        new.replace(self.clock)

    def stop(self, name, number=signal.SIGKILL):
        process = self.running.pop(name, None)
        if process is None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(20)
        except ProcessLookupError:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Failed(f"{name} does not end on signal {number}") from None

    def run(self, *words, output="json", seconds=20, around=()):
        where = ["--server-socket", self.dir / "admin.sock", "--agent-admin-socket", self.dir / "private/admin.sock"]
        where += ["--agent-socket", self.dir / "public/api.sock", "--output", output]
        command = [*around, self.bin / "landfast", *where, *words]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds)

    def ask(self, *words):
        """What it answers, or nothing."""
        done = self.run(*words)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def tell(self, *words):
        done = self.run(*words)
        if done.returncode != 0:
            raise Failed(f"landfast {' '.join(map(str, words))}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else done.stdout

    def status(self):
        return self.ask("agent", "status")

    def fetch(self):
        """The SVIDs of this process, or how it is refused."""
        done = self.run("svid", "fetch", "x509")
        return (json.loads(done.stdout), "") if done.returncode == 0 else ([], done.stderr.strip())

    def prepare(self, around=()):
        """The server is up; the node is in, and known."""
        self.start("server", around=around)
        until("the server answers", lambda: self.run("bundle", "show", output="table").returncode == 0, 20)
        (self.dir / "bundle.pem").write_text(self.run("bundle", "show", output="table").stdout)
        (self.dir / "token").write_text(self.run("token", "create", "--quiet", output="table").stdout)
        (self.dir / "token").chmod(0o600)
        self.start("agent")
        until("the node is in", lambda: (self.status() or {}).get("state") == "serving", 20)
        return self.status()["agent_id"]

    def entry(self, node, name, *options, reserve=None):
        """An identity for this user, on disk when this returns, with the whole of its reserve of `reserve[1]` SVIDs."""
        uid = f"unix:uid:{os.geteuid()}"
        made = self.tell("entry", "create", "--spiffe-id", f"spiffe://plant.test/{name}", "--parent-id", node, "--selector", uid, *options)
        made = made[0] if isinstance(made, list) else made
        if reserve:
            self.tell("entry", "policy", "set", made["id"], "--offline-reserve", reserve[0])
            until("the reserve is on disk", lambda: len(list(self.disk.glob("cache/rung-*"))) >= reserve[1], 60)
        return made["id"]

    def end(self):
        for name in list(self.running):
            self.stop(name)

    def tails(self):
        for log in sorted(self.dir.glob("*.log")):
            print(f"--- the end of {log.name}")
            print("\n".join(log.read_text(errors="replace").splitlines()[-25:]))

