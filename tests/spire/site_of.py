"""A directory with servers and agents of both kinds in it, and how to wait for them."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "rigs/python"))
from rig import Failed, free_port, until

TRUST_DOMAIN = "plant.test"


class Site:
    """Everything that one section starts. Nothing of it is left when the section ends."""

    def __init__(self, spire, landfast):
        self.spire, self.landfast = pathlib.Path(spire).resolve(), pathlib.Path(landfast).resolve()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="landfast-spire-"))
        self.dir.chmod(0o755)
        self.processes = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _trace):
        for name in list(self.processes):
            self.stop(name)
        if kind is None:
            shutil.rmtree(self.dir)
        else:
            print(f"  logs are in {self.dir}")

    def write(self, name, text, mode=0o644):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def start(self, name, *command):
        with open(self.dir / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=self.dir)

    def alive(self, name):
        return self.processes[name].poll() is None

    def stop(self, name):
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name):
        return (self.dir / f"{name}.log").read_text(errors="replace")

    def run(self, *command, check=True, stdin=None):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, cwd=self.dir, input=stdin)
        if check and done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done

    # Device certificates for x509pop.
    def device_ca(self):
        if not (self.dir / "device-ca.pem").exists():
            self.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                     "/CN=maker", "-keyout", "device-ca.key", "-out", "device-ca.pem", "-addext", "keyUsage=critical,keyCertSign")
        return self.dir / "device-ca.pem"

    def device(self, name):
        """A certificate and key for one device, and the agent ID that both servers give it."""
        self.device_ca()
        extensions = self.write(f"{name}.ext", "keyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE\n")
        self.run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                 f"{name}.key", "-out", f"{name}.csr")
        self.run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "device-ca.pem", "-CAkey", "device-ca.key", "-CAcreateserial",
                 "-days", "30", "-extfile", extensions, "-out", f"{name}.pem")
        shown = self.run("openssl", "x509", "-in", f"{name}.pem", "-noout", "-fingerprint", "-sha1").stdout
        fingerprint = shown.split("=")[1].strip().replace(":", "").lower()
        return f"spiffe://{TRUST_DOMAIN}/spire/agent/x509pop/{fingerprint}"

    # Servers.
    def spire_server(self, name="spire", **options):
        server = SpireServer(self, name, options)
        server.start()
        return server

    def landfast_server(self, name="landfast", **options):
        server = LandfastServer(self, name, options)
        server.start()
        return server


class Server:
    def __init__(self, site, name, options):
        self.site, self.name, self.options = site, name, options
        self.port = free_port()
        self.socket = site.dir / name / "private/api.sock"
        self.socket.parent.mkdir(parents=True)
        self.socket.parent.chmod(0o700)

    def start(self):
        self.launch()
        until(f"{self.name} is healthy", lambda: self.cli("healthcheck", check=False).returncode == 0)

    def stop(self):
        self.site.stop(self.name)

    def cli(self, *arguments, check=True, stdin=None):
        """One command of `spire-server`. Its flags stand behind the words of the command."""
        at = next((at for at, word in enumerate(arguments) if word.startswith("-")), len(arguments))
        command = [*arguments[:at], "-socketPath", self.socket, *arguments[at:]]
        return self.site.run(self.site.spire / "spire-server", *command, check=check, stdin=stdin)

    def landfast(self, *arguments, check=True):
        return self.site.run(self.site.landfast / "landfast", "--server-socket", self.socket, *arguments, check=check)

    def bundle(self, name="bundle.pem"):
        return self.site.write(f"{self.name}-{name}", self.cli("bundle", "show").stdout)

    def token(self, spiffe_id=None):
        alias = ["-spiffeID", spiffe_id] if spiffe_id else []
        return self.cli("token", "generate", *alias).stdout.split("Token:")[1].split()[0]

    def entry(self, path, parent, *more):
        self.cli("entry", "create", "-spiffeID", f"spiffe://{TRUST_DOMAIN}{path}", "-parentID", parent, "-selector",
                 f"unix:uid:{os.getuid()}", *more)


class SpireServer(Server):
    def launch(self):
        site, options = self.site, self.options
        config = site.write(f"{self.name}/server.conf", f"""
server {{
  bind_address = "127.0.0.1"
  bind_port = "{self.port}"
  socket_path = "{self.socket}"
  trust_domain = "{TRUST_DOMAIN}"
  data_dir = "{site.dir}/{self.name}/data"
  log_level = "INFO"
  ca_ttl = "{options.get("ca_ttl", "24h")}"
  agent_ttl = "{options.get("agent_ttl", "1h")}"
  default_x509_svid_ttl = "{options.get("x509_ttl", "1h")}"
  default_jwt_svid_ttl = "5m"
  {options.get("more", "")}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{site.dir}/{self.name}/data/datastore.sqlite3" }} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{site.dir}/{self.name}/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  NodeAttestor "x509pop" {{ plugin_data {{ ca_bundle_path = "{site.device_ca()}" }} }}
  {options.get("plugins", "")}
}}
""")
        (site.dir / self.name / "data").mkdir(exist_ok=True)
        site.start(self.name, site.spire / "spire-server", "run", "-config", config)


class LandfastServer(Server):
    def launch(self):
        site, options = self.site, self.options
        config = site.write(f"{self.name}/server.toml", f"""
trust_domain = "{TRUST_DOMAIN}"
data_dir = "{site.dir}/{self.name}/data"
listen = ["127.0.0.1:{self.port}"]
admin_socket = "{self.socket}"
{options.get("more", "")}
[ttl]
ca = "{options.get("ca_ttl", "30d")}"
agent = "{options.get("agent_ttl", "1h")}"
x509 = "{options.get("x509_ttl", "1h")}"
[attestation.x509pop]
ca_bundle = "{site.device_ca()}"
""")
        site.start(self.name, site.landfast / "landfast-server", "run", "--config", config)


class SpireAgent:
    """`attestation` is a token, or the name of a device."""

    def __init__(self, server, name, token=None, device=None, more=""):
        self.site, self.server, self.name, self.more = server.site, server, name, more
        self.token, self.device = token, device
        self.socket = self.site.dir / name / "public/api.sock"
        self.bundle = server.bundle(f"for-{name}.pem")

    def start(self):
        site = self.site
        attestor = 'NodeAttestor "join_token" { plugin_data {} }'
        if self.device:
            attestor = (f'NodeAttestor "x509pop" {{ plugin_data {{ private_key_path = "{site.dir}/{self.device}.key" '
                        f'certificate_path = "{site.dir}/{self.device}.pem" }} }}')
        token = f'join_token = "{self.token}"' if self.token else ""
        config = site.write(f"{self.name}/agent.conf", f"""
agent {{
  data_dir = "{site.dir}/{self.name}/data"
  log_level = "INFO"
  server_address = "127.0.0.1"
  server_port = "{self.server.port}"
  socket_path = "{self.socket}"
  trust_bundle_path = "{self.bundle}"
  trust_domain = "{TRUST_DOMAIN}"
  {token}
  {self.more}
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{site.dir}/{self.name}/data" }} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
  {attestor}
}}
""")
        site.start(self.name, site.spire / "spire-agent", "run", "-config", config)

    def fetch(self, *what, check=False):
        return self.site.run(self.site.spire / "spire-agent", "api", "fetch", *what, "-socketPath", self.socket, check=check)


class LandfastAgent:
    """`attestation` is a token, or the name of a device."""

    def __init__(self, server, name, token=None, device=None, more=""):
        self.site, self.server, self.name, self.more = server.site, server, name, more
        self.token, self.device = token, device
        self.socket = self.site.dir / name / "public/api.sock"
        self.admin = self.site.dir / name / "private/admin.sock"
        self.bundle = server.bundle(f"for-{name}.pem")

    def start(self):
        site = self.site
        for path in (self.socket, self.admin):
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.device:
            attestation = (f'method = "x509pop"\ncertificate = "{site.dir}/{self.device}.pem"\n'
                           f'private_key = "{site.dir}/{self.device}.key"')
        else:
            self.give_token(self.token)
            attestation = f'method = "join_token"\ntoken_file = "{site.dir}/{self.name}/token"'
        config = site.write(f"{self.name}/agent.toml", f"""
trust_domain = "{TRUST_DOMAIN}"
server = ["127.0.0.1:{self.server.port}"]
data_dir = "{site.dir}/{self.name}/data"
trust_bundle = "{self.bundle}"
socket = "{self.socket}"
admin_socket = "{self.admin}"
{self.more}
[attestation]
{attestation}
[sync]
interval = "1s"
retry_max = "2s"
""")
        site.start(self.name, site.landfast / "landfast-agent", "run", "--config", config)

    def give_token(self, token):
        self.site.write(f"{self.name}/token", token, 0o600)

    def fetch(self, *what, check=False):
        return self.site.run(self.site.spire / "spire-agent", "api", "fetch", *what, "-socketPath", self.socket, check=check)

    def status(self):
        return self.site.run(self.site.landfast / "landfast", "--agent-admin-socket", self.admin, "agent", "status", check=False).stdout
