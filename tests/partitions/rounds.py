"""The rounds: what is done to the network, the servers and the database, and what operators and nodes do meanwhile."""
import random
import signal
import threading
import time

from checker import CHANGED, CLEAR, FAILOVER, RECOVERED, Paths
from daemons import BACKDATE, FLEET, TRUST_DOMAIN, TTL, until
from links import Failed

# For how long a fault is left to do its harm, seconds.
HOLD = (1.0, 4.0)
# For how long nothing is wrong after that: authorities change in such times too.
CALM = (0.0, 6.0)
# How a server answers that there is no such entry.
NO_ENTRY = "entry not found"
# For how long a way must have been whole to be one that an agent can be expected to take.
ALIVE = 2.0
# Entries there are at a time, beside those that stay.
LIVE = 8
# After the answer to `authority prepare`, until an operator activates: beside another server it is refused for half a minute.
SETTLED = 31.0


class Rounds:
    def __init__(self, site, seed, say):
        self.site, self.random, self.say = site, random.Random(seed), say
        self.paths, self.round, self.live, self.open, self.number = Paths(), 0, [], [], 0
        self.served, self.server_of, self.read, self.reading = {}, {}, 0, threading.Lock()
        self.hopeless, self.bundles, self.taken = 0, {}, set()
        self.rotations = {name: {"state": "idle"} for name in site.servers}

    # What is known of the agents, from the history.

    def note(self, kind, **what):
        """Into the history, and what it says of the ways."""
        event = self.site.history.add(kind, **what)
        self.paths.see(event)
        return event["t"]

    def look(self):
        with self.reading:
            events, self.read = self.site.history.since(self.read)
            for event in events:
                if event["kind"] in ("svids", "bundle"):
                    self.bundles[event["agent"]] = event["bundle"]
                if event["kind"] == "svids":
                    for svid in event["svids"]:
                        self.served.setdefault((event["agent"], svid["id"]), event["t"])
                elif event["kind"] == "redeem" and event["result"] == "ok":
                    self.taken.add(event["token"])
                elif event["kind"] == "status":
                    self.server_of[event["agent"]] = event["server"] if event["reachable"] else None

    def seen(self, agent, one):
        self.look()
        return self.served.get((agent, one))

    # What operators do.

    def entry(self, server, label):
        """A new identity for the whole fleet. Its name if it was acknowledged."""
        self.number += 1
        one = f"spiffe://{TRUST_DOMAIN}/{label}/{self.number}"
        made = self.site.servers[server].ask("entry", "create", "--spiffe-id", one, "--parent-id", FLEET, "--selector", "unix:uid:0", "--x509-ttl", f"{TTL}s")
        if made is None:
            return None
        row = made[0] if isinstance(made, list) else made
        self.note("created", id=one, entry=row["id"], server=server)
        return one, row["id"]

    def delete(self, server, one, entry):
        self.note("deleting", id=one)
        # One whose deletion was not answered may be gone: then there is nothing to delete, which is an answer too.
        if self.site.servers[server].ask("entry", "delete", entry, or_else=NO_ENTRY) is not None:
            self.note("deleted", id=one, server=server)
            return True
        return False

    def running(self):
        return [name for name, server in self.site.servers.items() if server.alive() and not server.stopped]

    def work(self):
        """An operator's minute: an entry more, one less, tokens for new nodes, on any server that runs."""
        running = self.running()
        if not running:
            return
        pick = lambda: self.random.choice(running)
        made = self.entry(pick(), "work")
        if made:
            self.live.append(made)
        if len(self.live) > LIVE and self.delete(pick(), *self.live[0]):
            self.live.pop(0)
        token = self.site.servers[pick()].ask("token", "create")
        if token:
            self.note("token", token=token["token"])
            self.open.append(token["token"])
            for observer in self.site.observers.values():
                observer.redeem(token["token"], 10)

    def may_activate(self, authority):
        """An agent that is cut off now and has not got it before could never come back: no operator does that. Those that are online are
        what is tried here, and not looked at."""
        self.look()
        ways = [(agent, self.paths.whole(agent.namespace, server)) for agent in self.site.agents.values() for server in self.site.servers]
        online = {agent.name for agent, whole in ways if whole}
        return all(name in online or authority in self.bundles.get(name, []) for name in self.site.agents)

    def may_revoke(self, authority):
        """A node whose own SVID it has signed could never come back either, and a database that was away may have kept it from a new one."""
        return all(agent.signed_by() != authority for agent in self.site.agents.values())

    def rotate(self, name, calm):
        """The next step of an authority's life on one server: prepare, activate, and, when all is calm, taint and revoke."""
        server, now = self.site.servers[name], self.rotations[name]
        if now["state"] == "idle":
            done = server.ask("authority", "prepare", "x509")
            if done:
                now.update(state="prepared", next=done["id"], at=self.note("prepared", server=name, authority=done["id"]))
        elif now["state"] == "prepared" and time.time() - now["at"] > SETTLED and self.may_activate(now["next"]):
            shown = server.ask("authority", "show")
            rows = [row for row in shown or [] if row.get("kind") == "x509"]
            old = next((row["id"] for row in rows if row.get("standing") == "active"), None)
            if old == now["next"] or (old and server.ask("authority", "activate", "x509", now["next"])):
                self.note("activated", server=name, authority=now["next"])
                now.update(state="old" if old != now["next"] else "idle", old=old)
        elif now["state"] == "old" and calm and server.ask("authority", "taint", "x509", now["old"]):
            now.update(state="tainted", at=self.note("tainted", server=name, authority=now["old"]), round=self.round)
        elif now["state"] == "tainted" and calm and self.round > now["round"] + 2 and self.may_revoke(now["old"]):
            self.note("revoking", server=name, authority=now["old"])
            if server.ask("authority", "revoke", "x509", now["old"]):
                self.note("revoked", server=name, authority=now["old"])
                now.update(state="idle")

    # What goes wrong.

    def cut(self, ends, silent):
        self.site.network.links[ends].cut(silent)
        self.note("link", ends=ends, up=False, silent=silent)

    def lose_server(self, name, how):
        self.note("server", server=name, live=False, how=how)
        server = self.site.servers[name]
        if how == "stop":
            server.hang()
        else:
            server.end(signal.SIGKILL if how == "kill" else signal.SIGTERM)

    def fault(self):
        """One thing that goes wrong, in words, and whether the database is what went wrong."""
        site, choose = self.site, self.random.choice
        kinds = ["links"] * 5 + ["server"] * 3 + ["database"] * (3 if site.database else 0) + ["nothing"]
        kind = choose(kinds)
        if kind == "links":
            whole = [ends for ends, link in site.network.links.items() if not link.cut_by]
            # One that is in use, half of the time: two in three are not.
            chosen = self.random.sample(whole, min(len(whole), choose([1, 1, 2, 3])))
            if self.random.random() < 0.5:
                chosen = [ends for ends in whole if ends == self.used(choose(list(self.site.agents.values())))] or chosen
            silent = self.random.random() < 0.6
            for ends in chosen:
                self.cut(ends, silent)
            return ("silent cut" if silent else "cut") + f" of {', '.join('-'.join(ends) for ends in chosen)}", None
        if kind == "server" and self.running():
            name, how = choose(self.running()), choose(["kill", "stop", "end"])
            used = self.used(choose(list(self.site.agents.values())))
            name = used[1] if used and used[1] in self.running() else name
            self.lose_server(name, how)
            return f"{how} of {name}", None
        if kind == "database":
            what = choose(["kill", "hang", "read-only", "full", "full log", "restart"])
            return f"database {what}", what
        return "nothing", None

    def harm_database(self, what):
        database = self.site.database
        self.note("database", works=False, what=what)
        {"kill": database.kill, "hang": database.hang, "read-only": lambda: database.read_only(True), "full": lambda: database.fill(log=False),
         "full log": lambda: database.fill(log=True), "restart": database.stop}[what]()

    def mend_database(self, what):
        database = self.site.database
        if what == "hang":
            database.go_on()
        elif what == "read-only":
            database.read_only(False)
        elif what.startswith("full"):
            database.make_room()
        if not database.alive():
            database.start()
        until("PostgreSQL answers again", database.answers, 30)
        self.note("database", works=True)

    def heal(self):
        for ends, link in self.site.network.links.items():
            if link.cut_by:
                link.restore()
                self.note("link", ends=ends, up=True)
        for name, server in self.site.servers.items():
            if server.stopped:
                server.go_on()
            elif not server.alive():
                server.start()
            else:
                continue
            self.note("server", server=name, live=True)

    # What is waited for.

    def addresses(self, home):
        links = self.site.network.links
        return {f"{links[home, name].address[name]}:8081": name for name in self.site.servers}

    def used(self, agent):
        """The link to its server, or that server's to the database."""
        server = self.addresses(agent.namespace).get(self.server_of.get(agent.name))
        home = self.random.choice([agent.namespace, "db"]) if self.site.database else agent.namespace
        return (home, server) if server else None

    def failover(self, what, begun, before, ways):
        """Every agent that had its server taken away, and has another one, is served by that within a time that is measured."""
        moved = []
        for agent in self.site.agents.values():
            server = self.addresses(agent.namespace).get(before.get(agent.name))
            others = [name for name in self.site.servers if name != server and self.paths.whole(agent.namespace, name)
                      and begun - (ways.get((agent.namespace, name)) or begun) >= ALIVE and self.site.ready[name][0]]
            if server and others and not self.paths.whole(agent.namespace, server):
                moved.append((agent.name, others[0]))
        for through in sorted({other for _, other in moved}):
            probe = None
            while probe is None and time.time() - begun < 3 * FAILOVER:
                probe = self.entry(through, "probe")
            waiting = {agent for agent, other in moved if other == through}
            while probe and waiting and time.time() - begun < 6 * FAILOVER:
                for agent in [one for one in waiting if self.seen(one, probe[0])]:
                    waiting.discard(agent)
                    self.note("failover", round=self.round, what=what, agent=agent, seconds=self.seen(agent, probe[0]) - begun)
                time.sleep(0.05)
            for agent in waiting if probe else {agent for agent, other in moved if other == through}:
                self.note("failover", round=self.round, what=what, agent=agent, seconds=None)
            if probe:
                self.live.insert(0, probe)

    def database_round(self, what):
        """Each server says soon that it cannot work, acknowledges nothing that is not so, and works again by itself."""
        pids = {name: self.site.servers[name].process.pid for name in self.running()}
        self.harm_database(what)
        begun, clear = time.time(), dict.fromkeys(pids)
        if what != "restart":
            work = 0
            while None in clear.values() and time.time() - begun < CLEAR + 5:
                if time.time() - work > 1:
                    self.work()
                    work = time.time()
                for name in pids:
                    if clear[name] is None and self.site.ready[name][0] is False:
                        clear[name] = max(self.site.ready[name][2] - begun, 0.0)
                    # There may be room in pages that are there already: what is acknowledged must be so, as always, and what is not says why.
                    elif clear[name] is None and what == "full" and (self.entry(name, "probe") or "full" in self.site.servers[name].refusal):
                        clear[name] = time.time() - begun
                time.sleep(0.2)
            time.sleep(self.random.uniform(*HOLD))
        self.mend_database(what)
        mended, recovered = time.time(), {}
        for name, pid in pids.items():
            while name not in recovered and time.time() - mended < RECOVERED + 5:
                probe = self.entry(name, "probe")
                if probe and self.site.ready[name][0]:
                    recovered[name] = time.time() - mended
                if probe:
                    self.live.insert(0, probe)
                time.sleep(0.1)
            same = self.site.servers[name].process.pid == pid and self.site.servers[name].alive()
            self.note("fault", round=self.round, what=what, server=name, clear=0.0 if what == "restart" else clear[name],
                      recovered=recovered.get(name) if same else None, text=self.site.ready[name][1])

    def settle(self):
        """Everything is up: each server acknowledges, each agent is served, each token has its key."""
        probes = []
        for name in self.site.servers:
            end = time.time() + RECOVERED
            while (probe := self.entry(name, "probe")) is None and time.time() < end:
                time.sleep(0.2)
            if probe is None:
                self.note("unhealed", round=self.round, what=f"{name} took no entry within {RECOVERED:.0f} s, with everything up")
            else:
                probes.append(probe)
        waiting = [(agent, one) for one, _ in probes for agent in self.site.agents]
        self.wait(lambda: all(self.seen(*each) for each in waiting), 2 * CHANGED)
        lacking = [each for each in waiting if not self.seen(*each)]
        for agent, one in lacking:
            self.note("unhealed", round=self.round, what=f"{agent} was not given {one} within {2 * CHANGED:.0f} s, with everything up")
        self.hopeless = self.hopeless + 1 if lacking or len(probes) < len(self.site.servers) else 0
        if self.hopeless == 3:
            raise Failed("three times in a row not everything worked again, though everything was up")
        self.live = probes + self.live
        unredeemed = [token for token in self.open if not self.redeemed(token)]
        for token in unredeemed:
            for observer in self.site.observers.values():
                observer.redeem(token, 10)
        for token in unredeemed:
            self.wait(lambda token=token: self.redeemed(token), 12)
        self.open = []
        running = self.running()
        while running and len(self.live) > LIVE and self.delete(self.random.choice(running), *self.live[0]):
            self.live.pop(0)

    def redeemed(self, token):
        self.look()
        return token in self.taken

    @staticmethod
    def wait(so, seconds):
        end = time.time() + seconds
        while not so():
            if time.time() > end:
                return False
            time.sleep(0.1)
        return True

    def reap(self):
        """Whoever has ended without being asked to."""
        for daemon in self.site.daemons():
            expected = daemon.name in self.site.servers and ("server", daemon.name) in self.paths.down
            if not daemon.alive() and not expected:
                self.note("died", name=daemon.name, code=daemon.process.returncode)
                raise Failed(f"{daemon.name} has ended by itself, exit {daemon.process.returncode}")

    def begin(self):
        self.note("begun", backdate=BACKDATE)
        for name in self.site.servers:
            self.note("server", server=name, live=True)
        for agent in self.site.agents.values():
            self.note("agent", agent=agent.name, home=agent.namespace, servers=self.addresses(agent.namespace))
        for number in range(3):
            if self.entry(next(iter(self.site.servers)), "base") is None:
                raise Failed(f"no entry {number} at the start: {self.site.history.events[-1]}")
        for agent in self.site.agents:
            until(f"{agent} serves", lambda agent=agent: self.reap() or self.seen(agent, f"spiffe://{TRUST_DOMAIN}/base/3"), 60)

    def play(self, number):
        self.round = number
        self.reap()
        self.site.publish_bundle()
        self.look()
        before, ways = dict(self.server_of), dict(self.paths.since)
        self.rotate(self.random.choice(list(self.site.servers)), calm=not self.paths.down)
        begun = time.time()
        what, harm = self.fault()
        if harm:
            self.heal()
            self.database_round(harm)
        else:
            worker = threading.Thread(target=self.work)
            worker.start()
            if what != "nothing":
                self.failover(what, begun, before, ways)
            worker.join()
            if running := self.running():
                self.rotate(self.random.choice(running), calm=False)
            time.sleep(self.random.uniform(*HOLD))
        # Now and then the next fault comes on top of this one.
        healed = harm or self.random.random() < 0.75
        if healed:
            self.heal()
            self.settle()
            time.sleep(self.random.uniform(*CALM))
        self.note("round", round=number, what=what, healed=bool(healed))
        self.say(f"  {number:>3}  {what}{'' if healed else ', left so'}")

    def end(self):
        self.heal()
        self.settle()
