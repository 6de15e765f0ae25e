"""What operators do on any server that runs: entries come and go, tokens are made, authorities live and die."""
import time

from daemons import FLEET, TRUST_DOMAIN, TTL
from rules import KEPT, THIRD

# How a server answers that there is no such entry.
NO_ENTRY = "entry not found"
# Entries there are at a time, beside those that stay.
LIVE = KEPT
# After the answer to `authority prepare`, until an operator activates: beside another server it is refused for half a minute.
SETTLED = 31.0
# How often he tries at once, and how that is refused.
AT_ONCE, TOO_EARLY = 0.5, "not every agent that is online knows this authority yet"
# How a revocation is refused that was not carried out. Any other failure leaves it open: it may have been.
NOT_REVOKED = ("not possible to revoke an untainted authority", "unexpected authority ID", "the authority is active", "only old ones", "keep changing")


class Operators:
    """Of `Rounds`, which has the state."""

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
                elif event["kind"] == "redeem" and event["key"] == THIRD:
                    self.thirds[event["token"], event["server"]] += event["last"]
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

    def in_time(self):
        """Those whose clocks are right: an authority that is made by a clock which is ahead cannot sign when that is set."""
        return [name for name in self.running() if not self.site.servers[name].offset]

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
        self.token(pick())

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
                if len(self.site.servers) > 1 and self.random.random() < AT_ONCE:
                    self.activate_at_once(server, done["id"])
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
            elif any(text in server.refusal for text in NOT_REVOKED):
                self.note("kept", server=name, authority=now["old"])

    def activate_at_once(self, server, authority):
        """Agents of the other server may not have it yet: that must be refused, and is not counted when it failed otherwise."""
        done = server.ask("authority", "activate", "x509", authority)
        answer = "activated" if done else "refused" if TOO_EARLY in server.refusal else "unknown"
        self.note("early", server=server.name, authority=authority, answer=answer)
