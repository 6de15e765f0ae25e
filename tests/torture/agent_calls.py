"""Flows of the agent whose calls fail: first start with its attestation, entries that come and go, authorities that change, a ban."""
import calls
from agent import RESERVE, RUNGS, Node, keys, quiet, served
from daemons import Wrong, must


class Flow(calls.Flow):
    daemon, banned = "agent", False

    def prepare(self, place):
        self.node = Node(place)
        self.node.begin(recorded=False)
        self.first(place)
        place.stop_all()

    def first(self, place):
        place.start("agent")
        must("it serves", lambda: self.there(place))
        must("it is on disk", lambda: (place.disk / "agent/cache/index.b").exists())
        quiet(place.disk / "agent")
        self.before = served(place)

    def setting(self, place):
        self.node.place = place
        place.start("server")
        place.up("server")

    @staticmethod
    def wanted(place):
        return {entry["spiffe_id"] for entry in place.tell("entry", "list")}

    def there(self, place):
        return set(served(place) or {}) == self.wanted(place)

    def healed(self, place, acked):
        """What came while the disk failed is on it soon after, without anybody."""
        must("it serves what the server has", lambda: self.there(place), 30)
        self.forsake(place, lambda: set(served(place) or {}) == self.names)

    def forsake(self, place, so):
        """Started without a server, from its disk, again and again until it has come to it."""
        self.names = self.wanted(place)
        cached = place.disk / "agent/cache"

        def on_disk():
            before = {path.name: path.stat().st_mtime_ns for path in cached.glob("index.?")}
            return before if len(before) == 2 and min(before.values()) > self.since else None
        must("the cache is on disk again", on_disk, 30)
        quiet(place.disk / "agent")
        place.stop("server")
        place.stop("agent")
        place.start("agent")
        place.up("agent")
        if not so():
            raise Wrong(f"written again, it serves {served(place)} without its server: {place.said('agent')}")
        place.start("server")
        place.up("server")

    def check(self, place, acked):
        """Without its server it serves what was there before and after; with it, what the server has."""
        place.stop("server")
        place.start("agent")
        place.up("agent")
        alone = must("it answers", lambda: (served(place),))[0]
        place.start("server")
        place.up("server")
        wanted = self.wanted(place)
        if lost := (self.before.keys() & wanted) - (alone or {}).keys():
            raise Wrong(f"it has lost {', '.join(sorted(lost))}: {place.said('agent')}")
        if strange := (alone or {}).keys() - self.before.keys() - wanted:
            raise Wrong(f"it serves {', '.join(sorted(strange))}, which never was")
        must("it serves what the server has", lambda: self.there(place), 30)
        place.stop_all()


class Start(Flow):
    name, launched = "first start", True

    def first(self, place):
        self.before = {}

    def act(self, place):
        """A disk that fails may be in the way of attestation, and of nothing else."""
        try:
            must("it serves or has ended", lambda: place.ended("agent") or self.there(place), 3)
        except Wrong:
            return False
        return not place.ended("agent")


class Entries(Flow):
    name = "entries"

    def act(self, place):
        self.since = max(path.stat().st_mtime_ns for path in (place.disk / "agent/cache").glob("index.?"))
        self.node.create(2)
        place.tell("entry", "delete", next(entry["id"] for entry in place.tell("entry", "list") if entry["spiffe_id"] in self.before))
        must("it serves what the server has, whatever its disk does", lambda: place.ended("agent") or self.there(place), 30)
        # New entries wait for each other, for a second.
        until_written(place, self.since)


class Rotation(Flow):
    name = "rotation"

    def act(self, place):
        self.since = max(path.stat().st_mtime_ns for path in (place.disk / "agent/cache").glob("index.?"))
        place.rotate("x509", "taint")
        until_written(place, self.since)


class Reserve(Entries):
    """Filled; the agent goes on without, while its disk fails."""

    name = "reserve"

    def act(self, place):
        self.since = max(path.stat().st_mtime_ns for path in (place.disk / "agent/cache").glob("index.?"))
        for one in place.tell("entry", "list"):
            place.tell("entry", "policy", "set", one["id"], "--offline-reserve", RESERVE)
        until_written(place, self.since)

    def healed(self, place, acked):
        must("the reserve is on disk", lambda: len(self.node.beside(place).rungs()) == RUNGS * len(self.before), 30)
        super().healed(place, acked)

    def check(self, place, acked):
        super().check(place, acked)
        place.start("server")
        place.start("agent")
        must("the reserve is full", lambda: len(self.node.beside(place).rungs()) == RUNGS * len(self.before), 30)
        place.stop_all()


class Return(Flow):
    """It wakes up to servers that its bundle does not verify, and walks, and comes back by its device key; once more after the disk is whole."""

    name, launched = "way back", True

    def first(self, place):
        super().first(place)
        must("it is registered and pinned", self.node.firm)
        quiet(place.disk / "agent")
        place.stop("agent")
        place.rotate("x509", "taint", "revoke")

    def act(self, place):
        try:
            must("it is back or has ended", lambda: place.ended("agent") or self.node.beside(place).firm(), 3)
        except Wrong:
            return False
        return not place.ended("agent")

    def check(self, place, acked):
        place.start("server")
        place.up("server")
        for _ in range(2):
            place.start("agent")
            place.up("agent")
            must("it serves what the server has", lambda: self.there(place) and self.node.beside(place).firm(), 30)
            if asking := place.tell("agent", "pending"):
                raise Wrong(f"a person has to decide about the node: {asking}")
            place.stop("agent")
            place.rotate("x509", "taint", "revoke")
        place.stop_all()


class Ban(Flow):
    """Keys that were destroyed, or were to be, are destroyed at the next contact at the latest."""

    name = "ban"

    def act(self, place):
        place.tell("agent", "ban", self.node.id)
        try:
            must("its keys are gone", lambda: place.ended("agent") or not keys(place.disk / "agent"), 3)
        except Wrong:
            return False
        return not place.ended("agent")

    def healed(self, place, acked):
        must("its keys are gone", lambda: not keys(place.disk / "agent"), 30)

    def check(self, place, acked):
        place.start("server")
        place.up("server")
        place.start("agent")
        place.up("agent")
        must("a banned node serves nothing and has no key", lambda: served(place) == {} and not keys(place.disk / "agent"))
        place.stop_all()


def until_written(place, since):
    """Until the cache is written, or it is clear that it is not."""
    try:
        must("", lambda: place.ended("agent") or min((path.stat().st_mtime_ns for path in (place.disk / "agent/cache").glob("index.?")), default=0) > since, 3)
    except Wrong:
        pass


def matrix(folder, binaries, count, random, report):
    calls.matrix([Start(), Entries(), Reserve(), Rotation(), Return(), Ban()], folder, binaries, count, random, report)
