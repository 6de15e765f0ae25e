"""The agent's own files and its sealed cache: what it has put there it serves after a cut while its server is away, and what was taken away stays away.

The server is recorded too, and loses nothing: after each cut the agent meets it as it was at that moment.
"""
import copy
import json
import os
import signal
import time

from daemons import TRUST_DOMAIN, Place, Wrong, must
from disk import write_out
from rig import free_port
from timeline import History, Recording, choose, cut_again, moments_of, trial

NODE = f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/"
QUIET = 1.2
# What lets a node be what it was: not a fresh key that nobody has signed for.
SECRET = ("node-identity.json", "device-key.json", "index.a", "index.b", "tokens")
# 40 hours of rungs that live 20 hours each, of which one begins every 10.
RESERVE, RUNGS = "40h", 4
# Steps that take a reserve away and bring another.
RESIGNED = ("taint", "return")


def served(place):
    """The serial number of each identity; nothing at all if the agent does not answer."""
    done = place.run("svid", "fetch")
    if done.returncode == 0:
        return {one["spiffe_id"]: one["serial"] for one in json.loads(done.stdout)}
    return {} if "the agent refuses" in done.stderr else None


def files(folder):
    """Which file is where, as long as nobody writes."""
    found = {}
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found[str(path.relative_to(folder))] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def lasts(place):
    """Until when each identity lasts with what the node has ahead."""
    status = place.ask("agent", "status") or {}
    return {one["spiffe_id"]: one["debt_until"] for one in status.get("identities", []) if one["debt_until"]}


def own(folder):
    """What the node has written down of itself: its device key and how far that has counted, where it stands in the bundle chain, its bundle."""
    def read(name):
        try:
            return json.loads((folder / name).read_bytes())
        except (OSError, ValueError):
            return {}
    device, pin, bundle = (read(name) for name in ("device-key.json", "root-pin.json", "trust-bundle.json"))
    return {"key": device.get("key"), "of": device.get("agent_id"), "counter": device.get("counter", -1), "pin": (pin.get("epoch", 0), pin.get("sequence", 0)),
            "bundle": bundle.get("sequence", 0)}


def quiet(folder):
    """Until all that was to be written is."""
    before, since = files(folder), time.monotonic()
    while time.monotonic() - since < QUIET or any(name.endswith(".tmp") for name in before):
        time.sleep(0.02)
        now = files(folder)
        if now != before:
            before, since = now, time.monotonic()


class Node:
    """An agent with its server, and what is done to them."""

    def __init__(self, place):
        self.place, self.history, self.entries, self.number = place, History(), {}, 0
        # All that a step may leave behind: the SVIDs served while it was under way.
        self.passing, self.data = {}, place.disk / "agent"

    def beside(self, place):
        """The same node, as it is at another place."""
        other = copy.copy(self)
        other.place, other.data = place, place.disk / "agent"
        return other

    def index(self):
        there = files(self.data)
        return there.get("cache/index.a"), there.get("cache/index.b")

    def svids(self):
        """Of which there are files: those that no index names are removed."""
        return sum(name.startswith("cache/svid-") for name in files(self.data))

    def step(self, name, act, so, writes=True, after=False):
        """`so(served)`: the agent has come to it. `writes`: both indexes are written anew then; `after`: since it has come to it."""
        before, passing = self.index(), set()

        def all_of_it():
            act()

            def come():
                now = served(self.place)
                passing.update((now or {}).items())
                return now is not None and so(now)
            must(f"{name}: the agent has come to it", come, 30)
            last = self.index() if after else before
            if writes:
                must(f"{name}: it is on disk", lambda: all(a != b for a, b in zip(last, self.index())) and self.svids() == len(served(self.place) or {}), 30)
            quiet(self.data)
        self.history.step(name, all_of_it, lambda: served(self.place))
        step = self.history.steps[-1]
        step.lasts, step.own = lasts(self.place), own(self.data)
        step.passing = passing | set((step.seen or {}).items())

    def create(self, count):
        for _ in range(count):
            self.number += 1
            words = ["--spiffe-id", f"spiffe://{TRUST_DOMAIN}/w{self.number}", "--parent-id", self.id, "--selector", f"unix:uid:{os.geteuid()}"]
            made = self.place.tell("entry", "create", *words)
            self.entries[made["spiffe_id"]] = made["id"]

    def delete(self, count):
        for name in sorted(self.entries)[:count]:
            self.place.tell("entry", "delete", self.entries.pop(name))

    def all_there(self, now):
        return set(now) == set(self.entries)

    def begin(self, recorded=True):
        self.place.start("server", recorded)
        self.place.up("server")
        self.place.publish_bundle()
        token = self.place.tell("token", "create", "--ttl", "4h")["token"]
        self.id = NODE + token
        file = self.place.beside / "token"
        file.write_text(token)
        file.chmod(0o600)
        self.create(3)

    def again(self, number):
        def act():
            self.place.stop("agent", number)
            self.place.start("agent", recorded=True)
            self.place.up("agent")
        self.step("restart", act, self.all_there, writes=False)

    def firm(self):
        """Its device key is registered, and it has pinned the root keys: it comes back whatever becomes of its SVID and of the authorities."""
        status = self.place.ask("agent", "status") or {}
        return status.get("device_key", "").startswith("registered") and status.get("bundle_chain", "").startswith("pinned")

    def rungs(self, kind="rung"):
        return {name for name in files(self.data) if name.startswith(f"cache/{kind}-")}

    def reserve(self):
        # The last one stays to the end.
        entry = self.entries[max(self.entries)]
        ask = lambda: self.place.tell("entry", "policy", "set", entry, "--offline-reserve", RESERVE)
        self.step("reserve", ask, lambda now: self.all_there(now) and len(self.rungs()) == RUNGS)

    def signed_anew(self):
        """Whether all that there was when this was asked has given way."""
        before = set((served(self.place) or {}).values()), self.rungs(), self.rungs("svid")

        def is_new(now):
            return self.all_there(now) and all(not one & old for one, old in zip((set(now.values()), self.rungs(), self.rungs("svid")), before))
        return lambda now: is_new(now) and (len(self.rungs()), len(self.rungs("svid"))) == (RUNGS, len(now))

    def rotate(self):
        old = self.place.authority("x509", "active")

        def act():
            self.place.tell("authority", "prepare", "x509")
            fresh = self.place.authority("x509", "prepared")
            must("the node has said that it knows the new authority", lambda: self.place.run("authority", "activate", "x509", fresh).returncode == 0)
            self.place.tell("authority", "taint", "x509", old)
        self.step("taint", act, self.signed_anew())

    def away(self):
        """Asleep while the authorities changed: it walks the bundle chain, and comes back by its device key, for who signed its SVID is not believed any more."""
        anew = self.signed_anew()

        def act():
            self.place.stop("agent")
            self.place.rotate("x509", "taint", "revoke")
            self.place.start("agent", recorded=True)
        self.step("return", act, lambda now: anew(now) and self.firm())

    def update(self):
        name, before = sorted(self.entries)[0], served(self.place)
        change = lambda: self.place.tell("entry", "update", self.entries[name], "--hint", "other")
        self.step("entry update", change, lambda now: self.all_there(now) and now[name] != before[name], after=True)

    def live(self, ban=True):
        self.begin()
        self.step("first start", lambda: self.place.start("agent", recorded=True), lambda now: self.all_there(now) and self.firm())
        self.step("entry create", lambda: self.create(2), self.all_there)
        self.reserve()
        self.step("entry delete", lambda: self.delete(1), self.all_there)
        self.rotate()
        self.again(signal.SIGTERM)
        self.update()
        self.away()
        self.step("entry delete", lambda: self.delete(2), self.all_there)
        self.again(signal.SIGKILL)
        self.step("entry create", lambda: self.create(3), self.all_there)
        if ban:
            self.step("ban", lambda: self.place.tell("agent", "ban", self.id), lambda now: not now and self.destroyed(), writes=False)

    def destroyed(self):
        return not keys(self.data)


def keys(folder):
    """Files of a node that is in, and of its workloads."""
    return [str(path) for path in folder.rglob("*") if path.name in SECRET or path.name.startswith(("svid-", "rung-"))]


class Cut:
    def __init__(self, node, place, moment, sleeps):
        self.node, self.place, self.sleeps = node, place, sleeps
        self.done, self.under_way = node.history.at(moment)

    def check(self):
        banned = self.done and self.done.name == "ban"
        left = keys(self.place.disk / "agent")
        if banned and left:
            raise Wrong(f"the node is banned, and its keys are back: {', '.join(left)}")
        self.written()
        self.place.start("agent")
        self.place.up("agent")
        self.alone(must("it answers", lambda: (served(self.place),))[0])
        self.place.start("server")
        self.place.up("server")
        node = next((one for one in self.place.tell("agent", "list") if one["id"] == self.node.id), None)
        if node and node["banned"]:
            must("a banned node serves nothing", lambda: served(self.place) == {} and not keys(self.place.disk / "agent"))
        else:
            wanted = {entry["spiffe_id"] for entry in self.place.tell("entry", "list")}
            must("it serves what the server has for it", lambda: set(served(self.place) or {}) == wanted, 30)
            if self.sleeps:
                self.sleep(wanted)
        self.place.stop_all()

    def written(self):
        """What it had said to anybody of itself, and what it had been told, is on its disk."""
        leaving = "ban" in [step.name for step in (self.done, self.under_way) if step]
        now = own(self.place.disk / "agent")
        if (self.place.disk / "server/landfast.db").exists():
            said = dict(self.place.rows("SELECT agent_id, sequence FROM acknowledged")).get(self.node.id, 0)
            if said > now["bundle"]:
                raise Wrong(f"the server was told that the node has bundle {said}, and on its disk is {now['bundle']}")
        if not self.done or leaving:
            return
        before, after = self.done.own, (self.under_way or self.done).own
        if now["key"] not in (before["key"], after["key"]) or now["of"] != before["of"] or now["counter"] < before["counter"]:
            raise Wrong(f"its device key was registered and has counted to {before['counter']}; on its disk is one of {now['of']}, at {now['counter']}")
        if now["pin"] < before["pin"] or now["bundle"] < before["bundle"]:
            raise Wrong(f"it stood at step {before['pin']} with bundle {before['bundle']}, and stands at {now['pin']} with {now['bundle']}")

    def sleep(self, wanted):
        """Power comes back to stay, and later the node sleeps for so long that it knows nobody."""
        self.node = self.node.beside(self.place)
        must("it is registered and pinned", self.node.firm, 30)
        old = set(served(self.place).values())
        self.place.stop("agent")
        self.place.rotate("x509", "taint", "revoke")
        self.place.start("agent")
        come = lambda now: set(now) == wanted and not set(now.values()) & old
        must(f"it comes back by itself: {self.place.said('agent', 1)}", lambda: come(served(self.place) or {}), 30)
        if asking := self.place.tell("agent", "pending"):
            raise Wrong(f"a person has to decide about the node: {asking}")

    def alone(self, seen):
        """While the server is away: what is there before and after what was under way is there, and nothing that neither has."""
        if seen is None:
            raise Wrong(f"it does not answer: {self.place.said('agent')}")
        before = self.done.seen if self.done else {}
        after = self.under_way.seen if self.under_way else before
        may = set(before.items()) | (self.under_way.passing if self.under_way else set())
        if wrong := set(seen.items()) - may:
            raise Wrong(f"it serves {sorted(wrong)}, which was withdrawn or never was")
        leaving = "ban" in [step.name for step in (self.done, self.under_way) if step]
        if lost := (before.keys() & after.keys()) - seen.keys():
            # Who has walked the bundle chain knows that nobody verifies them any more.
            walked = self.under_way and self.under_way.name == "return"
            if not walked:
                raise Wrong(f"it has lost {', '.join(sorted(lost))}: {self.place.said('agent')}")
        if self.done and self.done.lasts and not leaving and not (self.under_way and self.under_way.name in RESIGNED):
            for name in self.done.lasts.keys() & (self.under_way or self.done).lasts.keys():
                if lasts(self.place).get(name, "") < self.done.lasts[name]:
                    raise Wrong(f"{name} was to last until {self.done.lasts[name]}: {lasts(self.place)}")
        agent_id = self.place.tell("agent", "status")["agent_id"]
        if self.done and not leaving and agent_id != self.node.id:
            raise Wrong(f"the node was {self.node.id} and is {agent_id}")


def cuts(folder, binaries, count, random, report):
    place = Place(folder / "recorded", binaries, free_port())
    cut_all(folder, Node(place), lambda node, place, moment, number: Cut(node, place, moment, sleeps=number % 3 == 1), count, random, report)


def cut_all(folder, node, cut, count, random, report):
    """Lets the node live, and then the power be cut at moments of that life; `cut` makes one of them, in a place."""
    place = node.place
    try:
        node.live()
        place.stop_all()
        chosen = choose(moments_of(place.disk, place.runs["agent"], "agent"), node.history, count, random)
        agent, server = (Recording(place.disk, place.runs[name]) for name in ("agent", "server"))
        for number, (moment, mode) in enumerate(chosen):
            agent.advance(moment)
            server.advance(moment)
            here = lambda place, moment=moment, number=number: cut(node, place, moment, number)
            cut_and_meet(folder, place, (agent, server), here, (number, mode), random, report)
    finally:
        place.stop_all()


def cut_and_meet(folder, recorded, recordings, cut, which, random, report):
    """`cut` makes one of a place. Each fourth time the power goes again while the agent starts; the server lies there as it was at that moment."""
    (agent, server), (number, mode) = recordings, which
    place = Place(folder / f"cut-{number}", recorded.bin, free_port(), recorded.dir)
    found, twice = agent.disk.after(mode, random), number % 4 == 3
    write_out(found, place.disk)

    def again():
        if twice:
            cut_again(place, "agent", found, mode, random)
        write_out(server.disk.after("kept", random), place.disk)
    trial(cut(place), place, report, (mode, twice), again)
