"""A PostgreSQL, on a small disk of its own, what can happen to it, and how it becomes the copy of another."""
import os
import pathlib
import shutil
import signal
import subprocess

from rig import Failed, postgres_binaries, postgres_user, until

NAME, PASSWORD = "landfast", "of-this-run-only"


class Database:
    """Runs as an unprivileged user in its namespace. `disk` is a small tmpfs, so that it can be full."""

    MEGABYTES = 160

    def __init__(self, network, namespace, folder):
        self.network, self.namespace, self.bin, self.user = network, namespace, postgres_binaries(), postgres_user()
        self.folder, self.disk, self.log, self.process = folder, folder / f"disk-{namespace}", folder / f"postgres-{namespace}.log", None
        self.data, self.filler = self.disk / "data", self.disk / "filler"
        self.authority, self.secret = folder / "database-ca.pem", folder / "database-password"
        self.disk.mkdir()
        self.log.touch()
        os.chown(self.log, self.user.pw_uid, self.user.pw_gid)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.MEGABYTES}m,mode=0700,uid={self.user.pw_uid},gid={self.user.pw_gid}",
                        "landfast-partitions", self.disk], check=True, timeout=30)

    def account(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def certify(self):
        """A certificate for its addresses, under an authority that the servers are given: one for all databases of a run."""
        addresses = [link.address[self.namespace] for ends, link in self.network.links.items() if self.namespace in ends]
        names = ",".join(f"IP:{address}" for address in addresses)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
        maker = self.folder / "database-ca.key"
        commands = [["req", "-x509", *key, "-subj", "/CN=maker", "-keyout", maker, "-out", self.authority, "-addext", "keyUsage=critical,keyCertSign"]]
        for command in (
            *([] if maker.exists() else commands),
            ["req", *key, "-subj", "/CN=database", "-keyout", "tls.key", "-out", "tls.csr", "-addext", f"subjectAltName={names}"],
            ["x509", "-req", "-in", "tls.csr", "-CA", self.authority, "-CAkey", maker, "-CAcreateserial", "-days", "30", "-copy_extensions",
             "copy", "-out", "tls.crt"],
        ):
            done = subprocess.run(["openssl", *command], capture_output=True, text=True, timeout=60, cwd=self.disk)
            if done.returncode != 0:
                raise Failed(f"openssl {command[0]}: {done.stderr}")
        for name in ("tls.key", "tls.crt"):
            os.chown(self.disk / name, self.user.pw_uid, self.user.pw_gid)

    def create(self):
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
            file.write("listen_addresses = '*'\nmax_wal_size = 8MB\nmin_wal_size = 2MB\nshared_buffers = 32MB\nmax_connections = 60\nssl = on\n")
        with open(self.data / "pg_hba.conf", "w", encoding="ascii") as file:
            file.write("local all all trust\nhostssl all,replication all 10.77.0.0/16 scram-sha-256\n")
        self.start()
        self.sql("CREATE DATABASE landfast", database="postgres")

    def inside(self, *words):
        """As its user, in its namespace."""
        return self.network.command(self.namespace, "setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups",
                                    "env", f"HOME={self.disk}", *words)

    def start(self):
        # What is its own: the rest of the configuration goes to a copy of it as it is.
        own = {"unix_socket_directories": self.disk, "ssl_cert_file": self.disk / "tls.crt", "ssl_key_file": self.disk / "tls.key"}
        own = [word for name, value in own.items() for word in ("-c", f"{name}={value}")]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.inside(self.bin / "postgres", "-D", self.data, *own), stdout=log, stderr=log, cwd=self.disk,
                                            start_new_session=True)
        until("PostgreSQL answers", lambda: self.answers() or self.has_ended(), 30)

    def has_ended(self):
        if self.process.poll() is not None:
            raise Failed(f"PostgreSQL has ended; its log is {self.log}")
        return False

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

    def says(self, text):
        """One value, or nothing when there is no answer."""
        return self.sql(text, database="postgres", check=False).stdout.strip()

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
        until("PostgreSQL is gone", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in family[1:]), 20, 0.05)

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

    # A copy of another.

    def copy(self, source):
        """Anew, as a replica of `source` that streams and has everything. False when that was not to be reached."""
        if self.alive():
            self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        address = self.network.links["db", "db2"].address[source.namespace]
        where = f"host={address} user={NAME} password={PASSWORD} sslmode=require"
        command = self.inside(self.bin / "pg_basebackup", "-D", self.data, "-d", where, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.disk)
        if "No route to host" in done.stderr:
            return False
        if done.returncode != 0:
            raise Failed(f"pg_basebackup: {done.stderr}")
        self.start()
        return until("the replica has everything", lambda: self.has_all_of(source), 30)

    def has_all_of(self, source):
        end = source.says("SELECT pg_current_wal_lsn()")
        return bool(end) and self.says(f"SELECT pg_last_wal_replay_lsn() >= '{end}' AND EXISTS (SELECT FROM pg_stat_wal_receiver)") == "t"

    def promote(self):
        self.sql("SELECT pg_promote(true, 30)", database="postgres")
        until("the replica is promoted", lambda: self.says("SELECT pg_is_in_recovery()") == "f", 30)

    def remove(self):
        if self.alive():
            self.signal(signal.SIGCONT)
            self.kill()
        subprocess.run(["umount", self.disk], capture_output=True, timeout=30)
        shutil.rmtree(self.disk, ignore_errors=True)


def table(databases, server):
    """What the configuration of a server says of them: all, in their order."""
    hosts = ",".join(database.network.links[database.namespace, server].address[database.namespace] for database in databases)
    return (f'[datastore]\npostgres = "host={hosts} port=5432 user={NAME} dbname=landfast"\nca_file = "{databases[0].authority}"\n'
            f'password_file = "{databases[0].secret}"')
