"""The server on a disk that was used before: its database is brought to the present schema, or was put back and is in quarantine until somebody has
looked. Power is cut meanwhile, and the start after it must stand where one before it did: a migration is done or not, a quarantine holds or has ended."""
import json
import shutil
import signal

from daemons import TRUST_DOMAIN, Place, Redeemer, Wrong, must
from disk import write_out
from rig import free_port
from server import NODE, check_signing, cut_and_try
from server_calls import entry, ids, older
from timeline import History, Recording, choose, moments_of


class Story:
    """`prepare` leaves a disk; `live` is recorded; `check` looks at a server that has started on what a cut has left."""

    def __init__(self, place):
        self.place, self.history = place, History()

    def do(self, name, act):
        return self.history.step(name, act, lambda: self.see(self.place))

    def start(self):
        self.place.start("server", recorded=True)
        self.place.up("server")

    def again(self, number=signal.SIGKILL):
        self.place.stop("server", number)
        self.start()

    def end(self):
        """Nothing of its own to stop."""


class Migrated(Story):
    """From the schema before rungs, device keys and the bundle chain, with a policy; each server of this version makes it a present one first."""

    schema = 7

    def prepare(self):
        self.place.start("server")
        self.place.up("server")
        for name in ("one", "two"):
            entry(self.place, name)
        self.described = ids(self.place)["one"]
        self.place.tell("entry", "policy", "set", self.described, "--description", "kept")
        self.authorities = self.place.tell("authority", "show")
        self.place.stop("server", signal.SIGTERM)
        older(self.place.disk / "server/landfast.db", self.schema)

    def see(self, place):
        return {"entries": sorted(ids(place)), "steps": place.rows("SELECT epoch, sequence, hex(digest) FROM chain_steps")}

    def live(self):
        self.do("first start", self.start)
        self.do("entry create", lambda: entry(self.place, "three"))
        self.do("restart", self.again)
        self.do("entry delete", lambda: self.place.tell("entry", "delete", ids(self.place)["two"]))

    def check(self, place, done, under_way):
        now, before = self.see(place), done.seen if done else {"entries": ["one", "two"], "steps": []}
        after = under_way.seen if under_way else before
        if now["entries"] not in (before["entries"], after["entries"]):
            raise Wrong(f"entries: {now['entries']}")
        shown = done.before["steps"] if done and done.before else []
        if lost := [step for step in shown if step not in now["steps"]]:
            raise Wrong(f"steps of the bundle chain are gone that were shown: {lost}")
        if place.tell("authority", "show") != self.authorities:
            raise Wrong("authorities began anew")
        if place.tell("entry", "policy", "get", self.described)["description"] != "kept":
            raise Wrong("a policy is gone")
        check_signing(place)


class Quarantined(Story):
    """An older database lies there, and beside it how new it has been: a node that was banned and an entry that was deleted come back with it."""

    def prepare(self):
        place, kept = self.place, self.place.dir / "kept"
        place.start("server")
        place.up("server")
        place.publish_bundle()
        self.redeemer = Redeemer(place)
        for name in ("one", "two"):
            entry(place, name)
        token = place.tell("token", "create", "--ttl", "4h")["token"]
        self.redeemer.redeem([(token, "first")], place.port)
        place.stop("server", signal.SIGTERM)
        shutil.copytree(place.disk / "server", kept)
        place.start("server")
        place.up("server")
        place.tell("agent", "ban", NODE + token)
        place.tell("entry", "delete", ids(place)["two"])
        at = lambda: json.loads((place.disk / "server/newest.json").read_text())["number"] == place.rows("SELECT revision FROM state")[0][0]
        must("how new it is has been noted", at, 30)
        place.stop("server", signal.SIGTERM)
        for path in (place.disk / "server").glob("landfast.db*"):
            path.unlink()
        for path in kept.glob("landfast.db*"):
            shutil.copy2(path, place.disk / "server")

    def see(self, place):
        shown = place.tell("quarantine", "show")
        epoch, = place.rows("SELECT epoch FROM state")[0]
        return {"holds": shown["quarantine"], "ended": [one["reason"] for one in shown["ended"]], "epoch": epoch, "entries": sorted(ids(place))}

    def live(self):
        self.do("first start", self.start)
        self.do("restart", self.again)
        self.do("entry delete", lambda: self.place.tell("entry", "delete", ids(self.place)["two"]))
        self.do("end", lambda: self.place.tell("quarantine", "end", "--reason", "looked at", "--accept-rollback"))
        self.do("entry create", lambda: entry(self.place, "three"))
        self.do("restart", lambda: self.again(signal.SIGTERM))

    def check(self, place, done, under_way):
        now = self.see(place)
        before = done.seen if done else {"holds": True, "ended": [], "epoch": now["epoch"], "entries": ["one", "two"]}
        after = under_way.seen if under_way else before
        for part, value in now.items():
            # Its end begins a new epoch first; that alone ends nothing.
            fits = before[part] <= value <= after[part] if part == "epoch" and done else value in (before[part], after[part])
            if not fits:
                raise Wrong(f"{part}: {before[part]} before, {value} now, {after[part]} after")
        if not now["holds"]:
            check_signing(place)
        elif place.run("mint", "x509", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/after").returncode == 0:
            raise Wrong("it is in quarantine, and signs")

    def end(self):
        self.redeemer.end()


class Cut:
    def __init__(self, story, place, moment):
        self.story, self.place = story, place
        self.done, self.under_way = story.history.at(moment)

    def check(self):
        self.place.start("server")
        self.place.up("server")
        self.story.check(self.place, self.done, self.under_way)
        self.place.tell("entry", "create", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/after", "--parent-id", f"{NODE}x", "--selector", "unix:uid:7")
        self.place.stop("server")


def found_on(disk):
    """What is on it, as a disk after a cut."""
    each = [disk, *disk.rglob("*")]
    return {path.relative_to(disk).parts: (path.stat().st_mode & 0o7777, None if path.is_dir() else path.read_bytes()) for path in each}


def told(kind, folder, binaries, count, random, report):
    """Cuts during one story, from the disk that it begins with."""
    place = Place(folder / kind.__name__.lower(), binaries, free_port())
    story = kind(place)
    try:
        story.prepare()
        base = found_on(place.disk)
        story.live()
        place.stop_all()
        moments = moments_of(place.disk, place.runs["server"], "server", base)
        recording = Recording(place.disk, place.runs["server"], base)
        for number, (moment, mode) in enumerate(choose(moments, story.history, count, random)):
            recording.advance(moment)
            cut = lambda place, moment=moment: Cut(story, place, moment)
            cut_and_try(folder / f"{place.dir.name}-{number}", place, recording, cut, (number, mode), random, report)
    finally:
        place.stop_all()
        story.end()


def cuts(folder, binaries, count, random, report):
    told(Migrated, folder, binaries, (count + 1) // 2, random, report)
    told(Quarantined, folder, binaries, count // 2, random, report)
