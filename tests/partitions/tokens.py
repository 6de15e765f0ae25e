"""Join tokens: made, redeemed by two nodes at once, tried again much later by a third, and looked for in the database itself."""
import sqlite3

from rules import THIRD

# Longer than a run: one that has expired would be refused also by a database that has forgotten who redeemed it.
LIFE = "4h"
# Attempts at a time: what is tried is the tokens, not the load.
BATCH = 20
ATTESTED = "SELECT spiffe_id, {hex}, serial FROM issued WHERE kind = 'x509' AND requester = 'attestation join_token'"


class Tokens:
    """Of `Rounds`, which has the state."""

    def token(self, server):
        """A token for a new node, and two nodes that want it. Whether it was made."""
        made = self.site.servers[server].ask("token", "create", "--ttl", LIFE)
        if made:
            self.note("token", token=made["token"])
            self.open.append(made["token"])
            self.tokens.append(made["token"])
            for observer in self.site.observers.values():
                observer.redeem(made["token"], 10)
        return bool(made)

    def try_again(self, last=False):
        """Every token of this run with a third key, when all is up again: a database that forgot a redemption would let it in.
        The key that has redeemed one may ask again for ten minutes; this one never."""
        servers = self.running()
        self.note("trying", round=self.round, tokens=list(self.tokens), last=last)
        observer = next(iter(self.site.observers.values()))
        for first in range(0, len(self.tokens), BATCH):
            batch = self.tokens[first:first + BATCH]
            pairs = {(token, server) for token in batch for server in (servers if last else [self.random.choice(servers)])}
            before = dict(self.thirds)
            for token, server in sorted(pairs):
                observer.redeem(token, 10, THIRD, [server])
            self.wait(lambda pairs=pairs, before=before: self.look() or all(self.thirds.get(one, 0) > before.get(one, 0) for one in pairs), 15)
        self.read_attested()

    def read_attested(self):
        """Which keys the database says it has attested, and what they were given; only what is new."""
        fresh = {}
        for agent, key, serial in self.attested_rows():
            if (agent, key, serial) not in self.attested:
                self.attested.add((agent, key, serial))
                fresh.setdefault(agent.rpartition("/")[2], []).append([key, serial])
        self.note("attested", round=self.round, tokens=fresh)

    def attested_rows(self):
        if self.site.database:
            shown = self.site.database.sql(ATTESTED.format(hex="encode(key_hash, 'hex')")).stdout
            return [tuple(line.split("|")) for line in shown.splitlines()]
        file = next(iter(self.site.servers.values())).dir / "data/landfast.db"
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)
        try:
            return database.execute(ATTESTED.format(hex="lower(hex(key_hash))")).fetchall()
        finally:
            database.close()
