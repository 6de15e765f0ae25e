"""A node with its real agent, whose own power stays: what it has from the server and remembers, the server must not have forgotten.

Rungs that were signed, its device key and how far it has counted, the bundle that it says it has, the steps of the bundle chain it was shown.
"""
import json
import signal

from daemons import TRUST_DOMAIN, Wrong, must

NODE = f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/"
# 40 hours of rungs that live 20 hours each, of which one begins every 10: the last is valid for longer.
RESERVE, RUNGS = "40h", 4


def ahead(place, folder=None):
    """What the server knows of nodes beyond the lists that operators see."""
    devices, unreadable = {}, []
    for agent, body in place.rows("SELECT agent_id, body FROM recoveries", folder):
        try:
            body = json.loads(body)
        except ValueError:
            # The server names it when the node asks to come back.
            unreadable.append(agent)
            continue
        claim = (body["last"] or {}).get("claim", {})
        devices[agent] = {"key": (body["key"] or {}).get("spki"), "counter": claim.get("counter", 0), "asked": claim.get("key"), "rival": bool(body["rival"])}
    return {
        "devices": devices,
        "unreadable": unreadable,
        "rungs": {serial: revoked is not None for serial, revoked in place.rows("SELECT serial, revoked_at FROM issued WHERE rung = 1", folder)},
        "acknowledged": dict(place.rows("SELECT agent_id, sequence FROM acknowledged", folder)),
        "steps": [*place.rows("SELECT epoch, sequence, hex(digest) FROM chain_steps ORDER BY epoch, sequence", folder)],
    }


def compare(before, now, after):
    """What was known before is, and nothing that neither knows but new steps of the chain, which a server makes by itself."""
    if lost := [step for step in before["steps"] if step not in now["steps"]]:
        raise Wrong(f"steps of the bundle chain are gone that were shown: {lost}")
    if lost := before["rungs"].keys() - now["rungs"].keys():
        raise Wrong(f"no record of the rungs {', '.join(sorted(lost))}, which a node has")
    if lost := [serial for serial, revoked in before["rungs"].items() if revoked and not now["rungs"][serial]]:
        raise Wrong(f"rungs that were revoked are not any more: {', '.join(lost)}")
    for agent in before["acknowledged"].keys() & after["acknowledged"].keys():
        if not before["acknowledged"][agent] <= now["acknowledged"].get(agent, 0) <= after["acknowledged"][agent]:
            raise Wrong(f"{agent} has said that it has bundle {before['acknowledged'][agent]}, and {now['acknowledged']} is known of it")
    for agent in before["devices"].keys() & after["devices"].keys():
        old, found, new = (of["devices"].get(agent) for of in (before, now, after))
        fits = found and found["key"] in (old["key"], new["key"]) and (found["counter"], found["asked"]) in [(one["counter"], one["asked"]) for one in (old, new)]
        # An evicted one is enrolled anew within a step.
        if not fits or found["rival"] != old["rival"]:
            raise Wrong(f"the device key of {agent} was {old}, and is {found}")


class Companion:
    """Its steps, for a plant: `self.place`, `self.do`, `self.token`."""

    node, node_entry = None, None

    def status(self):
        return self.place.ask("agent", "status") or {}

    def settled(self):
        """It is in, has a device key registered, is pinned, and has said which bundle it has: nothing comes by itself any more."""
        status = self.status()
        sequence = self.place.rows("SELECT bundle_sequence FROM state")[0][0]
        said = dict(self.place.rows("SELECT agent_id, sequence FROM acknowledged")).get(self.node)
        steps = self.place.rows("SELECT sequence FROM chain_steps")
        return status.get("device_key", "").startswith("registered") and status.get("bundle_chain", "").startswith("pinned") and said == sequence and steps

    def reserved(self):
        held = [one for one in self.status().get("identities", []) if one["entry_id"] == self.node_entry and one["debt_until"]]
        authority = self.place.authority("x509", "active")
        signed, = self.place.rows(f"SELECT count(*) FROM issued WHERE rung = 1 AND revoked_at IS NULL AND entry_id = '{self.node_entry}' AND authority_id = '{authority}'")[0]
        return signed >= RUNGS and held

    def node_comes(self):
        self.place.publish_bundle()
        token = self.token()
        file = self.place.beside / "token"
        file.write_text(token)
        file.chmod(0o600)
        self.node = NODE + token

        def act():
            self.place.start("agent")
            must("the node is in, and registered", self.settled, 30)
        self.do("node comes", act)
        self.tokens[token].update(used=self.history.steps[-1], again=False)

    def reserve(self):
        self.create("island", self.node)
        self.node_entry = self.entries.pop()
        set_policy = ("entry", "policy", "set", self.node_entry, "--offline-reserve", RESERVE)

        def act():
            self.place.tell(*set_policy)
            must("the reserve is full", self.reserved, 30)
        self.do("reserve", act)

    def acknowledge(self, kind):
        def act():
            self.place.tell("authority", "prepare", kind)
            must("the node has said that it has the bundle", self.settled, 30)
        self.do("acknowledge", act)

    def node_goes(self):
        self.place.stop("agent", signal.SIGKILL)

    def node_returns(self):
        """By its device key alone: its SVID is lost."""
        (self.place.agent / "node-identity.json").unlink()

        def act():
            self.place.start("agent")
            must("the node is back", lambda: self.settled() and self.status()["state"] == "serving" and self.reserved(), 30)
            if self.status()["agent_id"] != self.node:
                raise Wrong(f"the node was {self.node} and is {self.status()['agent_id']}")
        self.do("way back", act)

    def give_up_reserve(self):
        self.do("entry with rungs delete", lambda: self.place.tell("entry", "delete", self.node_entry))
