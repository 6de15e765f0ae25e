"""An agent of one kind on a server of the other: attested, synchronised, renewed, rotated under, evicted, banned."""
import base64
import json
import os
import re
import time

from site_of import TRUST_DOMAIN, Failed, LandfastAgent, SpireAgent, until

UID = os.getuid()


def check(so, what):
    if not so:
        raise Failed(what)


def passed(what):
    print(f"  ok: {what}", flush=True)


def svids(agent):
    """What the Workload API gives us: paths, with the identifier of the authority that signed each."""
    done = agent.fetch("x509", "-output", "json", "-timeout", "5s")
    if done.returncode != 0:
        # Refused is an answer; anything else is none.
        return {} if "PermissionDenied" in done.stderr else {None: done.stderr}
    found = {}
    for svid in json.loads(done.stdout)["svids"]:
        found[svid["spiffe_id"].removeprefix(f"spiffe://{TRUST_DOMAIN}")] = svid["x509_svid"]
    return found


def signer(agent, path):
    chain = base64.b64decode(svids(agent).get(path, ""))
    if not chain:
        return None
    (agent.site.dir / "svid.der").write_bytes(chain)
    shown = agent.site.run("openssl", "x509", "-inform", "DER", "-in", "svid.der", "-noout", "-ext", "authorityKeyIdentifier").stdout
    return "".join(re.findall(r"[0-9A-F]{2}(?=:|\s|$)", shown.split("\n", 1)[1])).lower()


def serves(agent, *paths, seconds=40):
    until(f"{agent.name} serves {', '.join(paths) or 'nothing'}", lambda: set(svids(agent)) == set(paths), seconds)


def own(server, agent_id):
    """What the server has written of an agent."""
    return json.loads(server.cli("agent", "show", "-spiffeID", agent_id, "-output", "json").stdout)


def authority(server, kind, verb, *more):
    done = server.cli("localauthority", kind, verb, *more, "-output", "json")
    return json.loads(done.stdout)


def tokens(server, kind):
    """Join token, JWT-SVIDs, entries that come and go, more of them than a page, renewal, eviction, a ban."""
    token = server.token(f"spiffe://{TRUST_DOMAIN}/node")
    agent_id = f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}"
    agent = kind(server, "token-node", token=token)
    server.entry("/a", agent_id, "-entryID", "a")
    server.entry("/b", f"spiffe://{TRUST_DOMAIN}/node", "-entryID", "b")
    agent.start()
    serves(agent, "/a", "/b")
    passed("attested by join token; entries of the node's own ID and of the token's -spiffeID arrive")
    jwt(agent)
    if kind is LandfastAgent:
        check("serving" in agent.status(), f"agent status: {agent.status()}")
    server.cli("entry", "delete", "-entryID", "a")
    serves(agent, "/b")
    server.entry("/a", agent_id, "-entryID", "a")
    serves(agent, "/a", "/b")
    passed("an entry that is deleted is withdrawn, and comes back")
    many(server, agent, agent_id)
    renewed(server, agent, agent_id)
    evicted_token(server, agent, agent_id)


def jwt(agent):
    done = agent.fetch("jwt", "-audience", "historian", "-spiffeID", f"spiffe://{TRUST_DOMAIN}/a", check=True)
    found = re.search(r"eyJ\S+", done.stdout)
    check(found, f"no token in {done.stdout}")
    agent.site.run(agent.site.spire / "spire-agent", "api", "validate", "jwt", "-audience", "historian", "-svid", found.group(0), "-socketPath",
                   agent.socket)
    passed("a JWT-SVID is had and validated")


def many(server, agent, parent):
    count = 1203
    entries = [{"entry_id": f"m{n:04}", "spiffe_id": f"spiffe://{TRUST_DOMAIN}/m/{n}", "parent_id": parent,
                "selectors": [{"type": "unix", "value": f"uid:{UID}"}]} for n in range(count)]
    server.cli("entry", "create", "-data", server.site.write("many.json", json.dumps({"entries": entries})))
    until(f"{count + 2} SVIDs", lambda: len(svids(agent)) == count + 2, 120)
    server.cli("entry", "update", "-entryID", "m0700", "-spiffeID", f"spiffe://{TRUST_DOMAIN}/changed", "-parentID", parent, "-selector",
               f"unix:uid:{UID}")
    until("the change arrives", lambda: "/changed" in svids(agent), 60)
    server.cli("entry", "delete", "-file", server.site.write("ids.json", json.dumps({"ids": [f"m{n:04}" for n in range(count)]})))
    serves(agent, "/a", "/b", seconds=90)
    passed(f"{count} entries (three pages) arrive, one that changed, and all are withdrawn again")


def renewed(server, agent, agent_id):
    before = own(server, agent_id)["x509svid_serial_number"]
    until("the agent renews its own SVID", lambda: own(server, agent_id)["x509svid_serial_number"] != before, 90)
    first = svids(agent)["/a"]
    until("the workload's SVID is renewed", lambda: svids(agent).get("/a") not in (None, first), 90)
    passed("the agent's own SVID and those of workloads are renewed")


def last(server, agent):
    server.cli("entry", "delete", "-entryID", "a")
    begun = time.monotonic()
    serves(agent)
    passed(f"the only entry of the node is deleted: withdrawn after {time.monotonic() - begun:.0f} s")


def evicted_token(server, agent, agent_id):
    server.cli("agent", "evict", "-spiffeID", agent_id)
    if isinstance(agent, SpireAgent):
        until("the agent ends", lambda: not agent.site.alive(agent.name), 60)
        passed("evicted, it ends: it has no way to attest again")
        return
    until("it says what it needs", lambda: "token generate" in agent.status())
    token = server.token()
    server.entry("/a", f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}", "-entryID", "a2")
    agent.give_token(token)
    serves(agent, "/a")
    passed("evicted, it says that it needs a token, and comes back with a new one")


def devices(server, kind):
    """x509pop: attested, renewed by attesting, evicted, away until its SVID is over, banned."""
    agent_id = server.site.device("device1")
    server.cli("entry", "create", "-node", "-spiffeID", f"spiffe://{TRUST_DOMAIN}/node", "-selector", "x509pop:subject:cn:device1")
    server.entry("/a", f"spiffe://{TRUST_DOMAIN}/node", "-entryID", "a")
    agent = kind(server, "device-node", device="device1")
    agent.start()
    serves(agent, "/a")
    check(own(server, agent_id)["can_reattest"], "the server has it as a node that cannot attest again")
    passed("attested by device certificate; the entries of a node alias by its selectors arrive")
    renewed(server, agent, agent_id)
    gaps = watch(agent, lambda: evict_and_return(server, agent, agent_id))
    passed(f"evicted, it attests again by itself; its program was without an identity in {gaps[0]} of {gaps[1]} looks")
    agent.site.stop(agent.name)
    until("its SVID is over", lambda: int(own(server, agent_id)["x509svid_expires_at"]) < time.time(), 90)
    agent.start()
    serves(agent, "/a")
    passed("away until its SVID was over, it attests again")
    server.cli("agent", "ban", "-spiffeID", agent_id)
    if isinstance(agent, SpireAgent):
        until("it ends", lambda: not agent.site.alive(agent.name), 60)
    else:
        serves(agent)
        until("it says so", lambda: "banned" in agent.status())
        check(not (agent.site.dir / agent.name / "data/identity").exists(), "its identity is still on disk")
        agent.site.stop(agent.name)
    agent.start()
    time.sleep(5)
    check(not set(svids(agent)) - {None}, "banned, it serves")
    if agent.site.alive(agent.name):
        agent.site.stop(agent.name)
    server.cli("agent", "evict", "-spiffeID", agent_id)
    agent.start()
    serves(agent, "/a")
    passed("banned, it serves nothing, also after a restart; evicted, it comes back")


def evict_and_return(server, agent, agent_id):
    server.cli("agent", "evict", "-spiffeID", agent_id)
    until("it attests again", lambda: server.cli("agent", "show", "-spiffeID", agent_id, check=False).returncode == 0, 60)
    serves(agent, "/a", seconds=60)


def watch(agent, act):
    """Looks at what is served while `act` goes on and for some seconds more; counts looks without an identity."""
    import threading
    stop, seen = threading.Event(), []
    looking = threading.Thread(target=lambda: [seen.append("/a" in svids(agent)) or time.sleep(0.2) for _ in iter(stop.is_set, True)])
    looking.start()
    try:
        act()
        time.sleep(12)
    finally:
        stop.set()
        looking.join()
    return seen.count(False), len(seen)


def rotation(server, kind):
    """The server's authorities are prepared, activated, tainted and revoked under an agent."""
    agent_id = server.site.device("device1")
    server.entry("/a", agent_id)
    agent = kind(server, "rotated-node", device="device1")
    agent.start()
    serves(agent, "/a")
    for turn in (1, 2):
        old = authority(server, "x509", "show")["active"]["authority_id"]
        old_jwt = authority(server, "jwt", "show")["active"]["authority_id"]
        new = authority(server, "x509", "prepare")["prepared_authority"]["authority_id"]
        new_jwt = authority(server, "jwt", "prepare")["prepared_authority"]["authority_id"]
        time.sleep(8)
        authority(server, "x509", "activate", "-authorityID", new)
        authority(server, "jwt", "activate", "-authorityID", new_jwt)
        serial = own(server, agent_id)["x509svid_serial_number"]
        authority(server, "x509", "taint", "-authorityID", old)
        authority(server, "jwt", "taint", "-authorityID", old_jwt)
        until("the workload's SVID is of the new authority", lambda: signer(agent, "/a") == new, 60)
        until("the agent's own is replaced", lambda: own(server, agent_id)["x509svid_serial_number"] != serial, 60)
        time.sleep(8)
        authority(server, "x509", "revoke", "-authorityID", old)
        authority(server, "jwt", "revoke", "-authorityID", old_jwt)
        server.entry(f"/after{turn}", agent_id)
        expected = {"/a", *(f"/after{n}" for n in range(1, turn + 1))}
        until("entries arrive after the revocation", lambda: set(svids(agent)) == expected, 60)
        jwt(agent)
        passed(f"turn {turn}: tainted, everything comes under the new authority; revoked, synchronisation goes on")
    agent.site.stop(agent.name)
    agent.start()
    serves(agent, "/a", "/after1", "/after2")
    passed("started again with what it has kept, it knows the server by the new authority")


def federation(server, kind):
    """Bundles of other trust domains come with the entries that name them."""
    agent_id = server.site.device("device1")
    foreign = server.cli("bundle", "show", "-format", "spiffe").stdout
    office = server.site.write("office.json", foreign)
    server.cli("bundle", "set", "-id", "spiffe://office.test", "-path", office, "-format", "spiffe")
    server.entry("/a", agent_id, "-entryID", "a", "-federatesWith", "spiffe://office.test")
    agent = kind(server, "federated-node", device="device1")
    agent.start()
    serves(agent, "/a")

    def federated():
        done = agent.fetch("x509", "-output", "json", "-timeout", "5s")
        return list((json.loads(done.stdout) if done.returncode == 0 else {}).get("federated_bundles", {}))
    until("the federated bundle arrives", lambda: federated() == ["spiffe://office.test"])
    server.cli("bundle", "delete", "-id", "spiffe://office.test", "-mode", "dissociate")
    until("it goes again", lambda: federated() == [] and "/a" in svids(agent), 60)
    passed("a federated bundle arrives with its entry, and goes with `bundle delete -mode dissociate`")
    last(server, agent)


SHORT = {"agent_ttl": "30s", "x509_ttl": "40s"}


def landfast_agent(site):
    tokens(site.spire_server("spire1", **SHORT), LandfastAgent)
    devices(site.spire_server("spire2", **SHORT), LandfastAgent)
    rotation(site.spire_server("spire3"), LandfastAgent)
    federation(site.spire_server("spire4"), LandfastAgent)


def landfast_agent_keys(site):
    """SPIRE servers with other keys, and with an authority above."""
    for name, options in {
        "rsa": {"more": 'ca_key_type = "rsa-2048"\n  jwt_key_type = "rsa-2048"'},
        "p384": {"more": 'ca_key_type = "ec-p384"\n  jwt_key_type = "ec-p384"'},
        "issuer": {"more": 'jwt_issuer = "https://issuer.test"'},
    }.items():
        simple(site.spire_server(name, **options), LandfastAgent, f"{name}-node")
        passed(f"X.509 and JWT of a server with {name}")
    site.device_ca()
    site.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=offline",
             "-keyout", "root.key", "-out", "root.pem", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    upstream = f'UpstreamAuthority "disk" {{ plugin_data {{ key_file_path = "{site.dir}/root.key" cert_file_path = "{site.dir}/root.pem" }} }}'
    simple(site.spire_server("below", plugins=upstream), LandfastAgent, "below-node")
    passed("X.509 and JWT of a server below an authority on disk (chains with an intermediate)")


def simple(server, kind, name):
    token = server.token()
    server.entry("/a", f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}")
    agent = kind(server, name, token=token)
    agent.start()
    serves(agent, "/a")
    jwt(agent)


def spire_agent(site):
    tokens(site.landfast_server("landfast1", **SHORT), SpireAgent)
    devices(site.landfast_server("landfast2", **SHORT), SpireAgent)
    rotation(site.landfast_server("landfast3"), SpireAgent)
    federation(site.landfast_server("landfast4"), SpireAgent)


def control(site):
    """SPIRE's agent on SPIRE's server: that a step can be passed at all."""
    tokens(site.spire_server("spire1", **SHORT), SpireAgent)
    devices(site.spire_server("spire2", **SHORT), SpireAgent)
    rotation(site.spire_server("spire3"), SpireAgent)
    federation(site.spire_server("spire4"), SpireAgent)


SECTIONS = {"landfast-agent": landfast_agent, "landfast-agent-keys": landfast_agent_keys, "spire-agent": spire_agent, "control": control}
