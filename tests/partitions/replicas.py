"""A replica that is frozen, looked at, and promoted without the last commits: nothing of it may be served until an operator has said so."""
import time

from checker import CLEAR, RECOVERED
from rig import until

REPLICATION = ("db", "db2")


class Replicas:
    """Of `Rounds`, which has the state."""

    def replica_round(self, lost):
        """One server is cut off from the database and finds the replica: first one that only reads, then one that was promoted and lacks what was
        committed since it froze. Then either the database comes back, or it is gone for good and somebody accepts the loss."""
        site, kept = self.site, [database.namespace for database in (self.site.database, self.site.replica)]
        assert kept == list(REPLICATION)
        pids = {name: site.servers[name].process.pid for name in self.running()}
        victim = self.random.choice(list(pids))
        other = next((name for name in pids if name != victim), victim)
        what = f"replica {'promoted for good' if lost else 'promoted'}"
        self.await_renewals()
        # After a cut the addresses have to be found anew.
        until("the replica is made", lambda: site.replica.copy(site.database), 30)
        site.network.links[REPLICATION].cut(False)
        gone = self.change_what_it_lacks(other)
        self.look()
        before, ways, begun = dict(self.server_of), dict(self.paths.since), time.time()
        self.cut(("db", victim), self.random.random() < 0.5)
        self.failover(f"{what}, database link of {victim}", begun, before, ways)
        self.says(f"{what}, while it only reads", victim, begun, "only reads")
        self.refuses(victim)
        site.replica.promote()
        # Each finds it by itself, and knows more than it has.
        self.says(what, victim, time.time(), "went back")
        self.refuses(victim)
        if lost:
            self.lose_for_good(pids, gone, what)
        else:
            site.replica.kill()
            self.mend_link(("db", victim))
            self.recovers(what, pids, time.time())
        site.network.links[REPLICATION].restore()
        if site.replica.alive():
            site.replica.kill()

    def change_what_it_lacks(self, server):
        """An entry more and one less, known to all agents. Both are answered: what is lost was believed."""
        gone = {"created": [], "deleted": []}
        for _ in range(2):
            if made := self.entry(server, "probe"):
                gone["created"].append(made[0])
                self.live.append(made)
        if self.live and self.delete(server, *self.live[0]):
            gone["deleted"].append(self.live.pop(0)[0])
        waiting = [(agent, one) for one in gone["created"] for agent in self.site.agents]
        self.wait(lambda: all(self.seen(*each) for each in waiting), 10)
        return gone

    def says(self, what, server, begun, text=""):
        """It is not ready, and says why."""
        so = lambda: self.site.ready[server][0] is False and text in self.site.ready[server][1]
        clear = time.time() - begun if self.wait(so, CLEAR + 2) else None
        self.note("fault", round=self.round, what=what, server=server, clear=clear, text=self.site.ready[server][1])

    def refuses(self, server):
        """Nothing is acknowledged on what may be old, neither read nor written."""
        for words in (("entry", "create", "--spiffe-id", "spiffe://plant.test/stale", "--parent-id", "spiffe://plant.test/fleet", "--selector", "unix:uid:0"),
                      ("token", "create")):
            if self.site.servers[server].ask(*words) is not None:
                self.note("stale", round=self.round, server=server, command=" ".join(words[:2]))

    def lose_for_good(self, pids, gone, what):
        """The database is gone; the replica is all there is. Nobody believes it until somebody says so."""
        site = self.site
        self.note("database", works=False, what="lost")
        site.database.kill()
        begun = time.time()
        for ends in [("db", name) for name in pids]:
            self.mend_link(ends)
        for name in pids:
            self.says(f"{what}, all servers", name, begun, "went back")
            self.refuses(name)
        self.note("lost", created=gone["created"], deleted=gone["deleted"])
        self.live = [one for one in self.live if one[0] not in gone["created"]]
        site.servers[next(iter(pids))].accept_loss()
        self.note("database", works=True)
        self.recovers(f"{what}, loss accepted", pids, time.time())
        self.settle()
        self.switch_back(pids)

    def switch_back(self, pids):
        """As planned: the first database is made anew, has everything, and takes over."""
        site = self.site
        site.network.links[REPLICATION].restore()
        until("the replica is made", lambda: site.database.copy(site.replica), 30)
        self.note("database", works=False, what="switch-over")
        # A fast end waits until the replica has all of its log.
        site.replica.stop()
        site.database.promote()
        self.note("database", works=True)
        self.recovers("replica, switch-over", pids, time.time())

    def recovers(self, what, pids, begun):
        """As the same process, without a restart: an entry is taken, and it is ready."""
        for name, pid in pids.items():
            seconds = None
            while seconds is None and time.time() - begun < RECOVERED + 5:
                if (probe := self.entry(name, "probe")) and self.site.ready[name][0]:
                    seconds = time.time() - begun
                self.live[:0] = [probe] if probe else []
                time.sleep(0.1)
            same = self.site.servers[name].process.pid == pid and self.site.servers[name].alive()
            self.note("fault", round=self.round, what=what, server=name, recovered=seconds if same else None, text=self.site.ready[name][1])

    def mend_link(self, ends):
        if self.site.network.links[ends].cut_by:
            self.site.network.links[ends].restore()
            self.note("link", ends=ends, up=True)

    def await_renewals(self):
        """What is lost is to be nobody's renewal: that node would have to attest again, and its token is used."""
        tainted = {now["old"] for now in self.rotations.values() if now["state"] == "tainted"}
        until("nodes have renewed what is tainted", lambda: all(agent.signed_by() not in tainted for agent in self.site.agents.values()), 60, 0.5)
