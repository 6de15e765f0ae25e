"""Flows of the server whose calls fail: first start, restart after a kill, migration, what operators and nodes do, a change of authorities."""
import hashlib
import pathlib
import signal
import sqlite3

import calls
from daemons import TRUST_DOMAIN, Redeemer, Wrong, must
from server import NODE, check_signing, see
from server_node import RESERVE, Companion, ahead

MIGRATIONS = pathlib.Path(__file__).resolve().parents[2] / "crates/server/migrations/sqlite"
APPLICATION = 0x4C464153


def entry(place, name):
    return place.run("entry", "create", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/{name}", "--parent-id", f"{NODE}x", "--selector", "unix:uid:7")


def ids(place):
    return {one["spiffe_id"].rpartition("/")[2]: one["id"] for one in place.tell("entry", "list")}


class Start(calls.Flow):
    """Whatever hinders a start, the next one is as if it had not been."""

    name, launched = "first start", True

    def act(self, place):
        must("it answers or has ended", lambda: place.ended("server") or place.ask("debug", "info") is not None)
        return not place.ended("server") and entry(place, "acked").returncode == 0

    def check(self, place, acked):
        place.start("server")
        place.up("server")
        there = ids(place)
        if acked and "acked" not in there:
            raise Wrong("an entry that was made is gone")
        if lost := self.before - there.keys():
            raise Wrong(f"entries from before the start are gone: {', '.join(sorted(lost))}")
        see(place)
        check_signing(place)
        place.stop("server")

    before = frozenset()


class Restart(Start):
    name, before = "restart", frozenset({"one", "two"})

    def prepare(self, place):
        place.start("server")
        place.up("server")
        for name in sorted(self.before):
            entry(place, name)
        place.stop("server")


class Migration(Restart):
    """From the schema that was there first, with all that it could hold."""

    name, schema = "migration", 1

    def prepare(self, place):
        super().prepare(place)
        place.start("server")
        place.up("server")
        place.stop("server", signal.SIGTERM)
        older(place.disk / "server/landfast.db", self.schema)


class LastMigration(Migration):
    """From the one before the last."""

    name, schema = "last migration", len([*MIGRATIONS.glob("*.sql")]) - 1


def older(path, schema):
    """The same database under this schema: what the later ones added is taken away."""
    database = sqlite3.connect(path)
    texts = [text.read_text() for text in sorted(MIGRATIONS.glob("*.sql"))[:schema]]
    fresh = sqlite3.connect(":memory:")
    fresh.executescript("".join(texts))
    columns = {}
    for table, in fresh.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall():
        columns[table] = [row[1] for row in fresh.execute(f"PRAGMA table_info({table})")]
    kept = {table: database.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall() for table, names in columns.items()}
    database.close()
    for file in path.parent.glob("landfast.db*"):
        file.unlink()
    path.touch(mode=0o600)
    database = sqlite3.connect(path)
    database.executescript("PRAGMA foreign_keys = OFF; CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL) STRICT;" + "".join(texts))
    for number, text in enumerate(texts, 1):
        database.execute("INSERT INTO schema_migrations VALUES (?, ?)", (number, hashlib.sha256(text.encode()).hexdigest()))
    for table, rows in kept.items():
        database.executemany(f"INSERT OR REPLACE INTO {table} ({', '.join(columns[table])}) VALUES ({', '.join('?' * len(columns[table]))})", rows)
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.commit()
    database.close()


class Operations(calls.Flow):
    """A token used, an entry made, one deleted, a node banned: what was answered holds, and is done on the second try where it was not."""

    name, redeemer = "operations", None

    def prepare(self, place):
        place.start("server")
        place.up("server")
        place.publish_bundle()
        entry(place, "old")
        self.redeemer = Redeemer(place)
        self.tokens = [place.tell("token", "create", "--ttl", "4h")["token"] for _ in range(2)]
        self.node = NODE + self.tokens[0]
        self.redeemer.redeem([(self.tokens[0], "first")], place.port)
        place.stop("server")

    def act(self, place):
        acked = set()
        (result, _), = self.redeemer.redeem([(self.tokens[1], "first")], place.port, 1).values()
        if result == "ok":
            acked.add("token")
        for what, done in (("made", lambda: entry(place, "new")), ("deleted", lambda: place.run("entry", "delete", self.old(place))),
                           ("banned", lambda: place.run("agent", "ban", self.node))):
            if not place.ended("server") and done().returncode == 0:
                acked.add(what)
        return acked

    @staticmethod
    def old(place):
        # Listed by the process, from memory.
        listed = place.ask("entry", "list") or []
        return next((one["id"] for one in listed if one["spiffe_id"].endswith("/old")), "gone")

    def healed(self, place, acked):
        must("it writes again", lambda: entry(place, "healed").returncode == 0)

    def check(self, place, acked):
        place.start("server")
        place.up("server")
        there = ids(place)
        banned = next(one for one in place.tell("agent", "list") if one["id"] == self.node)["banned"]
        wrong = {"made": "new" not in there, "deleted": "old" in there, "banned": not banned}
        for what in acked & wrong.keys():
            if wrong[what]:
                raise Wrong(f"it was {what}, and is not any more")
        # Whoever used the token may ask again; whoever did not come to it can.
        first = self.redeemer.redeem([(self.tokens[1], "first")], place.port)
        third = self.redeemer.redeem([(self.tokens[1], "third")], place.port)
        if [result for result, _ in first.values()] != ["ok"] or [result for result, _ in third.values()] == ["ok"]:
            raise Wrong(f"the token: {first}, and for another node {third}")
        check_signing(place)
        place.stop("server")


class Rotation(calls.Flow):
    """Authorities prepared, activated, tainted, revoked; there is one that signs at any time."""

    name, kind = "rotation", "x509"

    def prepare(self, place):
        place.start("server")
        place.up("server")
        place.stop("server")

    def shown(self, place):
        return {one["id"]: one for one in place.ask("authority", "show") or [] if one["kind"] == self.kind}

    def act(self, place):
        acked, old = [], next(iter(self.shown(place)), "gone")
        if place.run("authority", "prepare", self.kind).returncode == 0:
            fresh = next((one for one, of in self.shown(place).items() if of["standing"] == "prepared"), None)
            for step, which in (("activate", fresh), ("taint", old), ("revoke", old)):
                if fresh is None or place.run("authority", step, self.kind, which).returncode != 0:
                    break
                acked.append((step, fresh, old))
        return acked

    def healed(self, place, acked):
        must("it writes again", lambda: entry(place, "healed").returncode == 0)

    def check(self, place, acked):
        place.start("server")
        place.up("server")
        shown = self.shown(place)
        for step, fresh, old in acked:
            held = {
                "activate": shown.get(fresh, {}).get("standing") == "active",
                "taint": old not in shown or shown[old]["tainted"],
                "revoke": old not in shown or shown[old]["standing"] not in ("active", "prepared", "old"),
            }[step]
            if not held:
                raise Wrong(f"{step} was answered, and is undone: {shown}")
        see(place)
        check_signing(place)
        place.stop("server")


class Ahead(calls.Flow):
    """What a node has from the server for later: a device key that is registered, rungs, a bundle that it has acknowledged."""

    name, aside = "ahead", True

    def prepare(self, place):
        place.start("server")
        place.up("server")
        place.publish_bundle()
        token = place.tell("token", "create", "--ttl", "4h")["token"]
        file = place.beside / "token"
        file.write_text(token)
        file.chmod(0o600)
        self.node = NODE + token
        words = ["--spiffe-id", f"spiffe://{TRUST_DOMAIN}/island", "--parent-id", self.node, "--selector", "unix:uid:7"]
        self.entry = place.tell("entry", "create", *words)["id"]
        place.tell("entry", "policy", "set", self.entry, "--offline-reserve", RESERVE)
        place.stop("server")

    def of(self, place):
        companion = Companion()
        companion.place, companion.node, companion.node_entry = place, self.node, self.entry
        return companion

    def act(self, place):
        node = self.of(place)
        place.start("agent")
        try:
            must("it has all", lambda: place.ended("server") or node.settled() and node.reserved(), 5)
        except (Wrong, StopIteration):
            pass
        status = node.status()
        place.stop("agent")
        until = [one["debt_until"] for one in status.get("identities", []) if one["debt_until"]]
        return {"registered": status.get("device_key", "").startswith("registered"), "until": max(until, default="")}

    def healed(self, place, acked):
        must("it writes again", lambda: entry(place, "healed").returncode == 0)

    def check(self, place, acked):
        place.start("server")
        place.up("server")
        known = ahead(place)
        if acked["registered"] and not known["devices"].get(self.node, {}).get("key"):
            raise Wrong("the node was told that its device key is registered, and it is not")
        until = place.rows("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', max(not_after), 'unixepoch') FROM issued WHERE rung = 1")[0][0] or ""
        if until < acked["until"]:
            raise Wrong(f"the node has rungs until {acked['until']}, and {until or 'none'} are known")
        node = self.of(place)
        place.start("agent")
        must("the node has all", lambda: node.settled() and node.reserved(), 30)
        check_signing(place)
        place.stop("agent")
        place.stop("server")


def matrix(folder, binaries, count, random, report):
    operations = Operations()
    try:
        calls.matrix([Start(), Restart(), Migration(), LastMigration(), operations, Ahead(), Rotation()], folder, binaries, count, random, report)
    finally:
        if operations.redeemer:
            operations.redeemer.end()
