"""The server's database and keys: whatever it has answered is there after a cut, and nothing that was taken away comes back."""
import json
import signal
import subprocess
import time

import ledger
import server_node
from daemons import TRUST_DOMAIN, Place, Redeemer, Wrong
from disk import write_out
from rig import free_port
from server_node import NODE
from timeline import History, Recording, choose, cut_again, moments_of, trial

# What changes by itself, or is of the process and not of the disk; of the reserve each rung is looked at.
FLEETING = {"version", "serial", "expires_at", "reserve"}


def see(place):
    """All that the server says of itself, in parts that change on their own."""
    parts = {
        "entries": place.tell("entry", "list"),
        "nodes": [{key: value for key, value in node.items() if key not in FLEETING} for node in place.tell("agent", "list")],
        "authorities": place.tell("authority", "show"),
        "bundle": place.tell("bundle", "show"),
        "federated": place.tell("bundle", "list"),
        "policies": [list(row) for row in place.rows("SELECT * FROM entry_policies")],
        "numbers": place.rows("SELECT epoch, revision, journal_version, bundle_sequence FROM state")[0],
    }
    return {"ahead": server_node.ahead(place), **{part: canonical(seen) for part, seen in parts.items()}}


def canonical(seen):
    if isinstance(seen, list):
        return sorted(json.dumps(one, sort_keys=True) for one in seen)
    return seen


def difference(before, now):
    if not isinstance(now, list):
        return f"{before} before, {now} now"
    return f"gone: {[one for one in before if one not in now]}, come: {[one for one in now if one not in before]}"


class Plant(server_node.Companion):
    """What operators and nodes do, one after the other. It knows what each token was used for, and which serial numbers were handed out."""

    def __init__(self, place, random):
        self.place, self.random, self.history = place, random, History()
        self.redeemer, self.tokens, self.serials, self.entries = None, {}, [], []

    def do(self, name, act):
        done = self.history.step(name, act, lambda: see(self.place))
        self.history.steps[-1].kept = ledger.kept(self.place)
        return done

    def begin(self):
        def first():
            self.place.start("server", recorded=True)
            self.place.up("server")
        self.do("first start", first)
        self.place.publish_bundle()
        self.redeemer = Redeemer(self.place)

    def again(self, number):
        def act():
            self.place.stop("server", number)
            self.place.start("server", recorded=True)
            self.place.up("server")
        self.do("restart", act)

    def token(self):
        made = self.do("token create", lambda: self.place.tell("token", "create", "--ttl", "4h"))["token"]
        self.tokens[made] = {"made": self.history.steps[-1], "used": False, "again": True}
        return made

    def redeem(self, token):
        self.place.publish_bundle()

        def act():
            (result, what), = self.redeemer.redeem([(token, "first")], self.place.port).values()
            if result != "ok":
                raise Wrong(f"a new token is refused: {what}")
            return what
        serial = self.do("attest", act)
        self.tokens[token]["used"] = self.history.steps[-1]
        self.serials.append((self.history.steps[-1], serial))
        return NODE + token

    def forget(self, node, verb):
        self.do(f"agent {verb}", lambda: self.place.tell("agent", verb, node))
        # Who is shut out or forgotten gets no answer again either.
        self.tokens[node.rpartition("/")[2]]["again"] = False

    def create(self, name, parent=f"{NODE}x"):
        words = ["entry", "create", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/{name}", "--parent-id", parent, "--selector", f"unix:uid:{len(self.entries)}"]
        self.entries.append(self.do("entry create", lambda: self.place.tell(*words))["id"])

    def entry(self):
        # The last one stays: there is to be one to change.
        verb = self.random.choice(("update", "policy", "delete")[: 3 if len(self.entries) > 1 else 2])
        entry = self.entries.pop(self.random.randrange(len(self.entries)))
        words = {
            "update": ["entry", "update", entry, "--hint", f"{self.random.random()}"],
            "delete": ["entry", "delete", entry],
            "policy": ["entry", "policy", "set", entry, "--description", f"{self.random.random()}"],
        }[verb]
        self.do(f"entry {verb}", lambda: self.place.tell(*words))
        if verb != "delete":
            self.entries.append(entry)

    def rotate(self, kind, prepared=False):
        old = self.place.authority(kind, "active")
        if not prepared:
            self.do("authority prepare", lambda: self.place.tell("authority", "prepare", kind))
        # Nodes that attest here and say nothing more are not waited for.
        heard = ["--unheard"] if kind == "x509" else []
        self.do("authority activate", lambda: self.place.tell("authority", "activate", kind, self.place.authority(kind, "prepared"), *heard))
        self.do("authority taint", lambda: self.place.tell("authority", "taint", kind, old))
        self.do("authority revoke", lambda: self.place.tell("authority", "revoke", kind, old))

    def federate(self, remove):
        words = ["bundle", "delete", "other.test"] if remove else ["bundle", "set", "--trust-domain", "other.test", self.place.beside / "bundle.pem"]
        self.do(f"bundle {words[1]}", lambda: self.place.tell(*words))

    def mint(self):
        made = self.do("mint", lambda: self.place.tell("mint", "x509", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/minted"))
        shown = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=made["svid"], capture_output=True, text=True).stdout
        self.serials.append((self.history.steps[-1], shown.strip().partition("=")[2].lower()))

    def live(self):
        self.begin()
        for number in range(4):
            self.create(f"w{number}")
        nodes = [self.redeem(self.token()) for _ in range(3)]
        self.node_comes()
        self.reserve()
        self.acknowledge("x509")
        self.node_goes()
        self.rotate("x509", prepared=True)
        self.node_returns()
        self.node_goes()
        self.token()
        self.forget(nodes[0], "ban")
        self.again(signal.SIGTERM)
        self.federate(remove=False)
        for _ in range(6):
            self.entry()
            self.mint()
        self.forget(nodes[1], "evict")
        self.node_returns()
        self.give_up_reserve()
        self.node_goes()
        self.again(signal.SIGKILL)
        self.rotate("jwt")
        self.federate(remove=True)
        nodes.append(self.redeem(self.token()))
        self.forget(nodes[3], "ban")
        self.forget(self.node, "ban")
        for number in range(8):
            self.create(f"v{number}")
            self.entry()


class Cut:
    """One cut, and what the server that starts on what is left has to say."""

    def __init__(self, plant, place, moment):
        self.plant, self.place = plant, place
        self.done, self.under_way = plant.history.at(moment)

    def check(self):
        self.place.start("server")
        self.place.up("server")
        if self.done:
            self.compare(see(self.place))
            self.check_serials()
            self.check_tokens()
        if causes := self.place.tell("quarantine", "show")["causes"]:
            raise Wrong(f"a cut has put it in quarantine: {causes}")
        # What is there is of use: it signs with a key that fits what it says is its authority, and it writes.
        check_signing(self.place)
        self.place.tell("entry", "create", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/after", "--parent-id", f"{NODE}x", "--selector", "unix:uid:7")
        self.place.stop("server")
        answered = [step for step in self.plant.history.steps if self.done and self.acknowledged(step)]
        ledger.check(self.place, answered, [serial for step, serial in self.plant.serials if self.done and self.acknowledged(step)])

    def compare(self, seen):
        before, after = self.done.seen, (self.under_way or self.done).seen
        for part, now in seen.items():
            if part == "ahead":
                server_node.compare(before[part], now, after[part])
                continue
            if part == "numbers":
                fits = all(low <= number <= high for low, number, high in zip(before[part], now, after[part]))
            else:
                fits = now in (before[part], after[part])
            if not fits:
                raise Wrong(f"{part}: neither as answered nor as asked for: {difference(before[part], now)}")

    def acknowledged(self, step):
        return bool(step) and step.end <= self.done.end

    def check_serials(self):
        known = {serial for serial, in self.place.rows("SELECT serial FROM issued WHERE kind = 'x509'")}
        lost = [serial for step, serial in self.plant.serials if self.acknowledged(step) and serial not in known]
        if lost:
            raise Wrong(f"no record of {', '.join(lost)}, which were handed out")

    def check_tokens(self):
        used = [token for token, of in self.plant.tokens.items() if self.acknowledged(of["used"])]
        forgotten = {token for token in used if not self.plant.tokens[token]["again"]}
        fresh = [token for token, of in self.plant.tokens.items() if self.acknowledged(of["made"]) and token not in used and of["used"] is not self.under_way]
        asked = [(token, "third") for token in used] + [(token, "first") for token in used if token not in forgotten]
        self.place.publish_bundle()
        answers = self.plant.redeemer.redeem(asked + [(token, "new") for token in fresh], self.place.port)
        for (token, key), (result, what) in answers.items():
            if key == "third" and result == "ok":
                raise Wrong(f"the used token {token} enrols another node")
            if key == "new" and result != "ok":
                raise Wrong(f"the token {token} was made, and enrols nobody: {what}")
            # Within ten minutes of the first answer.
            if key == "first" and result != "ok" and time.time() - self.plant.tokens[token]["used"].end < 500:
                raise Wrong(f"the node that used the token {token} gets no answer again: {what}")


def check_signing(place):
    folder = place.dir / "minted"
    done = place.run("mint", "x509", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/after", "--write", folder)
    if done.returncode != 0:
        raise Wrong(f"it does not sign: {done.stderr.strip()}")
    shown = subprocess.run(["openssl", "verify", "-CAfile", folder / "bundle.pem", folder / "svid.pem"], capture_output=True, text=True)
    if shown.returncode != 0:
        raise Wrong(f"what it signs does not verify by its bundle: {shown.stdout}{shown.stderr}")


def cuts(folder, binaries, count, random, report):
    place = Place(folder / "recorded", binaries, free_port(), aside=True)
    plant = Plant(place, random)
    try:
        plant.live()
        place.stop_all()
        chosen = choose(moments_of(place.disk, place.runs["server"], "server"), plant.history, count, random)
        recording = Recording(place.disk, place.runs["server"])
        for number, (moment, mode) in enumerate(chosen):
            recording.advance(moment)
            cut = lambda place, moment=moment: Cut(plant, place, moment)
            cut_and_try(folder / f"cut-{number}", place, recording, cut, (number, mode), random, report)
    finally:
        place.stop_all()
        if plant.redeemer:
            plant.redeemer.end()


def cut_and_try(folder, recorded, recording, cut, which, random, report):
    """`cut` makes one of a place. Each fourth time the power goes again while the server starts."""
    number, mode = which
    place = Place(folder, recorded.bin, free_port(), recorded.dir)
    found, twice = recording.disk.after(mode, random), number % 4 == 3
    write_out(found, place.disk)
    again = lambda: twice and cut_again(place, "server", found, mode, random)
    trial(cut(place), place, report, (mode, twice), again)
