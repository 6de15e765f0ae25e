"""The rounds: what goes wrong in each, what is waited for, and what is measured."""
import random
import threading
import time
from collections import Counter

from checker import CHANGED, CLEAR, FAILOVER, RECOVERED, Paths
from daemons import BACKDATE, TRUST_DOMAIN
from faults import Faults
from operators import LIVE, Operators
from replicas import Replicas
from rig import Failed, until
from tokens import Tokens

# For how long a fault is left to do its harm, seconds.
HOLD = (1.0, 3.0)
# For how long nothing is wrong after that: authorities change in such times too.
CALM = (0.0, 3.0)
# For how long a way must have been whole to be one that an agent can be expected to take.
ALIVE = 2.0


class Rounds(Operators, Faults, Replicas, Tokens):
    def __init__(self, site, seed, say, only=()):
        self.site, self.random, self.say, self.only = site, random.Random(seed), say, only
        self.paths, self.round, self.live, self.open, self.number = Paths(), 0, [], [], 0
        self.served, self.server_of, self.read, self.reading = {}, {}, 0, threading.Lock()
        self.hopeless, self.bundles, self.taken = 0, {}, set()
        self.tokens, self.thirds, self.attested = [], Counter(), set()
        self.rotations = {name: {"state": "idle"} for name in site.servers}

    # What is waited for.

    def addresses(self, home):
        links = self.site.network.links
        return {f"{links[home, name].address[name]}:8081": name for name in self.site.servers}

    def used(self, agent):
        """The link to its server, or that server's to the database."""
        server = self.addresses(agent.namespace).get(self.server_of.get(agent.name))
        home = self.random.choice([agent.namespace, "db"]) if self.site.database else agent.namespace
        return (home, server) if server else None

    def lost(self, home, server):
        """What an agent's way through its server lacks now."""
        lacking = {"agent's link": (home, server), "database link": ("db", server)}
        return " and ".join(name for name, ends in lacking.items() if ends in self.paths.down)

    def failover(self, what, begun, before, ways):
        """Every agent that had its server taken away, and has another one, is served by that within a time that is measured."""
        moved = []
        for agent in self.site.agents.values():
            server = self.addresses(agent.namespace).get(before.get(agent.name))
            others = [name for name in self.site.servers if name != server and self.paths.whole(agent.namespace, name)
                      and begun - (ways.get((agent.namespace, name)) or begun) >= ALIVE and self.site.ready[name][0]]
            if server and others and not self.paths.whole(agent.namespace, server):
                moved.append((agent.name, others[0], self.lost(agent.namespace, server)))
        cause = {agent: f"{what.split(' of ')[0]}, {lost}" if "cut" in what else what.split(" of ")[0] for agent, _, lost in moved}
        moved = [(agent, other) for agent, other, _ in moved]
        for through in sorted({other for _, other in moved}):
            probe = None
            while probe is None and time.time() - begun < 3 * FAILOVER:
                probe = self.entry(through, "probe")
            waiting = {agent for agent, other in moved if other == through}
            while probe and waiting and time.time() - begun < 6 * FAILOVER:
                for agent in [one for one in waiting if self.seen(one, probe[0])]:
                    waiting.discard(agent)
                    self.note("failover", round=self.round, what=what, cause=cause[agent], agent=agent, seconds=self.seen(agent, probe[0]) - begun)
                time.sleep(0.05)
            for agent in waiting if probe else {agent for agent, other in moved if other == through}:
                self.note("failover", round=self.round, what=what, cause=cause[agent], agent=agent, seconds=None)
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
                    elif clear[name] is None and what.startswith("full") and (self.entry(name, "probe") or "full" in self.site.servers[name].refusal):
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
        self.note("begun", backdate=BACKDATE, kinds=sorted(set(self.kinds())), servers=len(self.site.servers))
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
        for name in self.in_time():
            self.rotate(name, calm=not self.paths.down)
        begun = time.time()
        what, harm = self.fault()
        if harm:
            self.heal()
        if harm and harm.startswith("replica"):
            self.settle()
            self.replica_round(harm == "replica lost")
        elif harm:
            self.database_round(harm)
        else:
            worker = threading.Thread(target=self.work)
            worker.start()
            if what != "nothing":
                self.failover(what, begun, before, ways)
            worker.join()
            self.see_clock()
            for name in self.in_time():
                self.rotate(name, calm=False)
            time.sleep(self.random.uniform(*HOLD))
        # Now and then the next fault comes on top of this one.
        healed = harm or self.random.random() < 0.75
        if healed:
            self.heal()
            self.settle()
            if harm:
                self.try_again()
            time.sleep(self.random.uniform(*CALM))
        what = harm if what == "replica" else what
        self.note("round", round=number, what=what, healed=bool(healed), seconds=time.time() - begun)
        self.say(f"  {number:>3}  {what}{'' if healed else ', left so'}")

    def end(self):
        self.heal()
        self.settle()
        self.try_again(last=True)
