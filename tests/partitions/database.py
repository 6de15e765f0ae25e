"""One PostgreSQL, on a small disk of its own, and what can happen to it."""
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import time

from links import Failed

NAME, PASSWORD = "landfast", "of-this-run-only"
BINARIES = ["/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin", "/usr/local/bin"]


def binaries():
    for place in BINARIES:
        if all((pathlib.Path(place) / name).exists() for name in ("initdb", "postgres")):
            return pathlib.Path(place)
    return None


def user():
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Failed("neither a user postgres nor nobody: PostgreSQL refuses to run as root")


class Database:
    """Runs as an unprivileged user in its namespace. `disk` is a small tmpfs, so that it can be full."""

    MEGABYTES = 160

    def __init__(self, network, namespace, folder):
        self.network, self.namespace, self.bin, self.user = network, namespace, binaries(), user()
        self.disk, self.log, self.process = folder / "disk", folder / "postgres.log", None
        self.data, self.filler = self.disk / "data", self.disk / "filler"
        self.authority, self.secret = folder / "database-ca.pem", folder / "database-password"
        self.disk.mkdir()
        self.log.touch()
        os.chown(self.log, self.user.pw_uid, self.user.pw_gid)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.MEGABYTES}m,mode=0700,uid={self.user.pw_uid},gid={self.user.pw_gid}",
                        "landfast-partitions", self.disk], check=True, timeout=30)

    def account(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def certify(self, addresses):
        """A certificate for its addresses, under an authority that the servers are given."""
        names = ",".join(f"IP:{address}" for address in addresses)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
        for command in (
            ["req", "-x509", *key, "-subj", "/CN=maker", "-keyout", "ca.key", "-out", self.authority, "-addext", "keyUsage=critical,keyCertSign"],
            ["req", *key, "-subj", "/CN=database", "-keyout", "tls.key", "-out", "tls.csr", "-addext", f"subjectAltName={names}"],
            ["x509", "-req", "-in", "tls.csr", "-CA", self.authority, "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-copy_extensions",
             "copy", "-out", "tls.crt"],
        ):
            done = subprocess.run(["openssl", *command], capture_output=True, text=True, timeout=60, cwd=self.disk)
            if done.returncode != 0:
                raise Failed(f"openssl {command[0]}: {done.stderr}")
        for name in ("tls.key", "tls.crt"):
            os.chown(self.disk / name, self.user.pw_uid, self.user.pw_gid)

    def create(self, addresses):
        self.certify(addresses)
        self.secret.write_text(PASSWORD)
        self.secret.chmod(0o600)
        secret = self.disk / "secret"
        secret.write_text(PASSWORD)
        os.chown(secret, self.user.pw_uid, self.user.pw_gid)
        # Small segments, so that a full disk is felt by the log soon.
        command = [self.bin / "initdb", "-D", self.data, "-U", NAME, "--pwfile", secret, "-A", "scram-sha-256", "--wal-segsize=1", "--no-sync",
                   "-E", "UTF8", "--locale=C"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.disk, **self.account())
        if done.returncode != 0:
            raise Failed(f"initdb: {done.stdout}{done.stderr}")
        with open(self.data / "postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"listen_addresses = '*'\nunix_socket_directories = '{self.disk}'\nmax_wal_size = 8MB\nmin_wal_size = 2MB\n"
                       "shared_buffers = 32MB\nmax_connections = 60\n"
                       f"ssl = on\nssl_cert_file = '{self.disk}/tls.crt'\nssl_key_file = '{self.disk}/tls.key'\n")
        with open(self.data / "pg_hba.conf", "w", encoding="ascii") as file:
            file.write("local all all trust\nhostssl all all 10.77.0.0/16 scram-sha-256\n")
        self.start()
        self.sql("CREATE DATABASE landfast", database="postgres")

    def start(self):
        command = self.network.command(self.namespace, "setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}",
                                       "--clear-groups", self.bin / "postgres", "-D", self.data)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.disk, start_new_session=True)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"PostgreSQL has ended; its log is {self.log}")
            if self.answers():
                return
            time.sleep(0.1)
        raise Failed(f"PostgreSQL does not answer; its log is {self.log}")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def answers(self):
        return self.alive() and self.sql("SELECT 1", database="postgres", check=False).returncode == 0

    def sql(self, text, database=NAME, check=True):
        command = ["psql", "-XAtq", "-h", self.disk, "-U", NAME, "-d", database, "-c", text]
        # The operator is not read-only himself.
        environment = {"PATH": os.environ["PATH"], "PGOPTIONS": "-c default_transaction_read_only=off", "PGCONNECT_TIMEOUT": "5"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(command, 124, "", "no answer in 20 s")
        if check and done.returncode != 0:
            raise Failed(f"psql: {text}: {done.stderr.strip()}")
        return done

    def table(self, address):
        """What a server's configuration says of it."""
        return (f'[datastore]\npostgres = "postgres://{NAME}@{address}:5432/landfast"\nca_file = "{self.authority}"\n'
                f'password_file = "{self.secret}"')

    def family(self):
        """The postmaster, first, and its children."""
        parent, children = self.process.pid, []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    # After the name, which may hold anything: the state, and then the parent.
                    if int((entry / "stat").read_text().rpartition(") ")[2].split()[1]) == parent:
                        children.append(int(entry.name))
                except (OSError, IndexError, ValueError):
                    continue
        return [parent, *children]

    def signal(self, number):
        for pid in self.family():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    # What can happen to it, and how it is over.

    def stop(self, fast=True):
        self.process.send_signal(signal.SIGINT if fast else signal.SIGQUIT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """As when the power goes: nothing is written any more."""
        family = self.family()
        self.signal(signal.SIGKILL)
        self.process.wait(30)
        end = time.monotonic() + 20
        while any(os.path.exists(f"/proc/{pid}") for pid in family[1:]) and time.monotonic() < end:
            time.sleep(0.05)

    def hang(self):
        # The first cannot start others then.
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def read_only(self, on):
        self.sql(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}", database="postgres")
        self.sql("SELECT pg_reload_conf()", database="postgres")

    def fill(self, log):
        """To the last byte; and, with `log`, until PostgreSQL has no room for its log either, which ends it."""
        with open(self.filler, "wb", buffering=0) as file:
            for block in (1 << 16, 512):
                try:
                    while file.write(bytes(block)):
                        pass
                except OSError:
                    continue
        if log:
            for _ in range(20):
                self.sql("SELECT pg_logical_emit_message(true, 'filler', repeat('x', 900000))", database="postgres", check=False)
        else:
            self.sql("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)", database="postgres", check=False)

    def make_room(self):
        self.filler.unlink(missing_ok=True)

    def remove(self):
        if self.alive():
            self.signal(signal.SIGCONT)
            self.kill()
        subprocess.run(["umount", self.disk], capture_output=True, timeout=30)
        shutil.rmtree(self.disk, ignore_errors=True)
