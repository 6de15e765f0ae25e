"""Our command line on SPIRE's server, and a server of one kind below one of the other."""
import json
import re

from agents import check, passed, serves
from site_of import TRUST_DOMAIN, LandfastAgent, SpireAgent, until


def landfast_cli(site):
    """Our command line on SPIRE's server."""
    server = site.spire_server()
    device = site.device("device1")
    agent = SpireAgent(server, "cli-node", device="device1")
    agent.start()
    until("the node is attested", lambda: "x509pop" in server.cli("agent", "list").stdout)
    foreign = site.write("office.json", server.cli("bundle", "show", "-format", "spiffe").stdout)
    exported = site.write("entries.json", server.cli("entry", "show", "-output", "json").stdout)
    workload = f"spiffe://{TRUST_DOMAIN}/a"
    ids = {}
    for text in LANDFAST.strip().splitlines():
        name, _, text = text.rpartition(" <- ")
        words = [word.format(device=device, foreign=foreign, exported=exported, workload=workload, dir=site.dir, **ids) for word in text.split()]
        done = server.landfast(*words, check=False)
        check(done.returncode == 0, f"landfast {text}: exit {done.returncode}: {done.stdout}{done.stderr}")
        if name:
            found = json.loads(done.stdout)
            rows = found if isinstance(found, list) else [found]
            ids[name] = next(row["id"] for row in rows if row.get("standing", "prepared") != "old")
    passed(f"{len(LANDFAST.strip().splitlines())} commands: each does what it says")


LANDFAST = """
bundle show
bundle show --output json
token create --ttl 10m
token create --ttl 10m --agent-id spiffe://plant.test/gateway
agent list
agent list --output json
agent show {device}
agent count
entry <- entry create --spiffe-id {workload} --parent-id {device} --selector unix:uid:7 --output json
entry list
entry show {entry}
entry count
entry update {entry} --hint main
entry import {exported} --dry-run
entry delete {entry}
bundle set --trust-domain office.test {foreign}
bundle list
federation create --trust-domain lab.test --url https://lab.test/ --profile https-web
federation list
federation show lab.test
federation delete lab.test
bundle delete office.test
mint x509 --spiffe-id {workload} --write {dir}/minted
mint jwt --spiffe-id {workload} --audience historian
debug info
old <- authority show --output json
new <- authority prepare x509 --output json
authority activate x509 {new}
authority taint x509 {old}
authority revoke x509 {old}
log level
log level debug
log level reset
agent purge --dry-run
agent ban {device}
agent evict {device}
"""

def nested(site):
    """A SPIRE server that has its authority from a Landfast server above it."""
    above = site.landfast_server("above")
    token = above.token()
    above.entry("/below", f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}", "-downstream")
    between = SpireAgent(above, "between", token=token)
    between.start()
    serves(between, "/below")
    upstream = (f'UpstreamAuthority "spire" {{ plugin_data {{ server_address = "127.0.0.1" server_port = "{above.port}" '
                f'workload_api_socket = "{between.socket}" }} }}')
    below = site.spire_server("below", plugins=upstream)
    passed("a SPIRE server starts below a Landfast server")
    one_domain(site, above, SpireAgent, below, LandfastAgent)


def nested_spire(site):
    """A Landfast server that has its authority from a SPIRE server above it, through the Workload API of an agent of ours."""
    above = site.spire_server("above")
    token = above.token()
    above.entry("/below", f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}", "-downstream")
    between = LandfastAgent(above, "between", token=token)
    between.start()
    serves(between, "/below")
    upstream = f'[upstream.spire]\nserver = "127.0.0.1:{above.port}"\nworkload_api = "unix://{between.socket}"'
    below = site.landfast_server("below", more=upstream, ca_ttl="12h")
    passed("a Landfast server starts below a SPIRE server")
    one_domain(site, above, SpireAgent, below, SpireAgent)


def one_domain(site, above, kind_above, below, kind_below):
    """Two servers of one trust domain, with an agent below each."""
    roots = {server.name: json.loads(server.cli("bundle", "show", "-output", "json").stdout) for server in (above, below)}
    asn1 = {name: {one["asn1"] for one in bundle["x509_authorities"]} for name, bundle in roots.items()}
    check(asn1["above"] == asn1["below"], "the two have other X.509 authorities")
    node = {}
    for server, kind in ((above, kind_above), (below, kind_below)):
        token = server.token()
        server.entry(f"/of-{server.name}", f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}")
        node[server.name] = kind(server, f"node-{server.name}", token=token)
        node[server.name].start()
        serves(node[server.name], f"/of-{server.name}")
    keys = until("each knows the JWT authorities of both", lambda: (k := jwt_keys(above)) == jwt_keys(below) and len(k) >= 2 and k, 60)
    passed(f"one bundle: the same X.509 authorities and {len(keys)} JWT authorities on both; an agent serves below each")
    token = node["below"].fetch("jwt", "-audience", "historian", check=True).stdout
    token = re.search(r"eyJ\S+", token).group(0)
    until("a token from below is valid above", lambda: site.run(
        site.spire / "spire-agent", "api", "validate", "jwt", "-audience", "historian", "-svid", token, "-socketPath",
        node["above"].socket, check=False).returncode == 0, 60)
    passed("a JWT-SVID from below is valid above")


def jwt_keys(server):
    bundle = json.loads(server.cli("bundle", "show", "-output", "json").stdout)
    return {one["key_id"] for one in bundle["jwt_authorities"]}


SECTIONS = {"landfast-cli": landfast_cli, "nested": nested, "nested-spire": nested_spire}
