"""Two Envoys in mTLS through SDS from one agent, one by state, one by difference, while their SVIDs rotate under load.

check.py ENVOY LANDFAST WORK: prints one line a check, and `done envoy` at its end. Python's own library only.
INTEROP_ENVOY_SECONDS (0) is how long the load goes on at least.
"""

import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ENVOY, LANDFAST, WORK = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
SOCKET = os.environ["INTEROP_ENVOY_SOCKET"]
DOMAIN = os.environ["INTEROP_TRUST_DOMAIN"]
FOREIGN = os.environ["INTEROP_FOREIGN_TRUST_DOMAIN"]
ADMIN = os.environ["INTEROP_SERVER_ADMIN"]
SERVER_ID, CLIENT_ID = (f"spiffe://{DOMAIN}/interop/envoy-{name}" for name in ("server", "client"))
RESTART = pathlib.Path(os.environ["INTEROP_RESTART"])
ROTATIONS = 3
SECONDS = int(os.environ.get("INTEROP_ENVOY_SECONDS", "0"))
NOTHING = "e3b0c44298fc1c149afbf4c8996fb924"  # the version of a stream that has no secret any more
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def endpoint(name, where):
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": where}}]}]}


def tls(kind, certificate, bundle, peer, api, more):
    """A TLS context of which everything comes through SDS."""

    def sds(name):
        service = {"envoy_grpc": {"cluster_name": "agent"}}
        source = {"api_type": api, "transport_api_version": "V3", "grpc_services": [service]}
        return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": source}}

    match = [{"san_type": "URI", "matcher": {"exact": peer}}]
    common = {
        "tls_certificate_sds_secret_configs": [sds(certificate)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": match},
            "validation_context_sds_secret_config": sds(bundle),
        },
    }
    typed = {"@type": f"{SECRET}{kind}", "common_tls_context": common, **more}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def listener(name, port, routes, transport):
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": address(port), "filter_chains": [{**chain, **transport}]}


HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def protocol(**options):
    return {HTTP: {"@type": f"type.googleapis.com/{HTTP}", **options}}


AGENT = {
    "name": "agent",
    "connect_timeout": "1s",
    "typed_extension_protocol_options": protocol(explicit_http_config={"http2_protocol_options": {}}),
    "load_assignment": endpoint("agent", {"pipe": {"path": SOCKET}}),
}


def start(name, admin, listeners, clusters):
    config = {
        "node": {"id": name, "cluster": "interop"},
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": listeners, "clusters": [AGENT, *clusters]},
    }
    path = WORK / f"{name}.json"
    path.write_text(json.dumps(config))
    log = open(WORK / f"{name}.log", "wb")
    command = [ENVOY, "-c", path, "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    return subprocess.Popen(command, stdout=log, stderr=log)


FULL = {"max_session_keys": 0}  # no session is kept: each handshake is a full one


def upstream(name, port, bundle, more):
    """Each request on a connection of its own."""
    return {
        "name": name,
        "connect_timeout": "2s",
        "typed_extension_protocol_options": protocol(
            explicit_http_config={"http_protocol_options": {}}, common_http_protocol_options={"max_requests_per_connection": 1}
        ),
        "load_assignment": endpoint(name, address(port)),
        "transport_socket": tls("UpstreamTlsContext", CLIENT_ID, bundle, SERVER_ID, "DELTA_GRPC", more),
    }


def get(port, path):
    """Status and body; status 0 when there is no answer at all."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def serial(admin, uri):
    """Of the certificate that an Envoy uses now, as it says itself."""
    status, body = get(admin, "/certs")
    chains = [one for each in json.loads(body)["certificates"] for one in each["cert_chain"]] if status == 200 else []
    found = [one["serial_number"] for one in chains if any(san.get("uri") == uri for san in one["subject_alt_names"])]
    return found[0] if found else None


def stat(admin, name):
    _, body = get(admin, f"/stats?format=json&filter={name}$")
    return sum(one.get("value", 0) for one in json.loads(body)["stats"])


def eventually(what, condition, seconds=15):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def want(condition, what):
    if not condition:
        raise AssertionError(what)


class Load:
    """Requests one after another, from the first to the last moment of a check."""

    def __init__(self, port):
        self.port, self.done, self.failures, self.stop = port, 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.is_set():
            status, body = get(self.port, "/good")
            self.done += 1
            if (status, body) != (200, "hello"):
                self.failures.append((status, body))
            time.sleep(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


class Checks:
    def __init__(self):
        self.server, self.resuming, self.client, self.server_admin, self.client_admin = free_ports(5)
        hello = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
        mutual = {"require_client_certificate": True}
        disabled = {f"disable_{way}_session_resumption": True for way in ("stateless", "stateful")}
        never_resumed = {**mutual, **disabled}
        secured = lambda more: {"transport_socket": tls("DownstreamTlsContext", SERVER_ID, "ALL", CLIENT_ID, "GRPC", more)}  # noqa: E731
        route = lambda name: {"match": {"prefix": f"/{name}"}, "route": {"cluster": name}}  # noqa: E731
        clusters = [
            upstream("good", self.server, "ROOTCA", FULL),
            upstream("foreign", self.server, f"spiffe://{FOREIGN}", FULL),
            upstream("offering", self.server, "ROOTCA", {}),
            upstream("control", self.resuming, "ROOTCA", {}),
        ]
        routes = [route(each["name"]) for each in clusters]
        inbound = [
            listener("in", self.server, [hello], secured(never_resumed)),
            listener("resuming", self.resuming, [hello], secured(mutual)),
        ]
        self.envoys = [
            start("envoy-server", self.server_admin, inbound, []),
            start("envoy-client", self.client_admin, [listener("out", self.client, routes, {})], clusters),
        ]

    def first(self):
        eventually("a request over mTLS", lambda: get(self.client, "/good") == (200, "hello"), 20)

    def rotation(self):
        """Before and after each rotation, and in between."""
        began = time.monotonic()
        rotated = self.rotations(ROTATIONS)
        with Load(self.client) as load:
            eventually(
                f"{ROTATIONS} rotations of both", lambda: rotated() and time.monotonic() >= began + SECONDS, SECONDS + 40
            )
        self.unharmed(load, rotated)

    def restart(self):
        """What they have serves on while the agent is away; what is new comes from the next one."""
        rotated = self.rotations(2)
        with Load(self.client) as load:
            (RESTART / "envoy.ready").touch()
            eventually("the restart of the agent", (RESTART / "envoys-restarted").exists, 120)
            eventually("rotations after a restart of the agent", rotated, 40)
        self.unharmed(load, rotated)

    def rotations(self, least):
        """Whether there were as many, each time it is asked; both certificates are looked at then."""
        seen = {self.server_admin: set(), self.client_admin: set()}

        def rotated():
            for admin, uri in ((self.server_admin, SERVER_ID), (self.client_admin, CLIENT_ID)):
                seen[admin].add(serial(admin, uri))
            return all(len(serials - {None}) > least for serials in seen.values())

        rotated.seen = seen
        return rotated

    def unharmed(self, load, rotated):
        certificates = [len(serials - {None}) for serials in rotated.seen.values()]
        print(f"     envoy: {load.done} requests, {certificates} certificates", flush=True)
        want(load.done > 50, f"only {load.done} requests")
        want(not load.failures, f"{len(load.failures)} of {load.done} failed: {load.failures[:2]}")
        for admin in rotated.seen:
            want(stat(admin, "update_rejected") == 0, "an Envoy refused what it was sent")

    def resumption(self):
        """Against a listener as docs/envoy.md has it, with a client that would; and the control, where it is seen."""
        reused = lambda name: stat(self.client_admin, f"cluster.{name}.ssl.session_reused")  # noqa: E731
        for name in ("offering", "control"):
            for _ in range(10):
                want(get(self.client, f"/{name}") == (200, "hello"), f"no answer by {name}")
        want(reused("control") > 0, "the control resumes nothing: this check would see nothing")
        want(reused("offering") == 0, f"{reused('offering')} sessions were resumed")
        want(reused("good") == 0, f"{reused('good')} sessions were resumed under load")

    def foreign_bundle(self):
        """The same peer, looked at with the bundle of the other trust domain."""
        before = stat(self.client_admin, "cluster.foreign.ssl.fail_verify_error")
        status, body = get(self.client, "/foreign")
        want(status == 503, f"status {status}: {body}")
        want(stat(self.client_admin, "cluster.foreign.ssl.fail_verify_error") > before, f"for another reason: {body}")

    def foreign_peer(self):
        """A peer of the other trust domain by its own word."""
        key, certificate = WORK / "foreign-key.pem", WORK / "foreign.pem"
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        request += ["-subj", "/CN=x", "-addext", f"subjectAltName=URI:spiffe://{FOREIGN}/x", "-keyout", key, "-out", certificate]
        subprocess.run(request, check=True, capture_output=True)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        before = stat(self.server_admin, "ssl.fail_verify_error")
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", self.server), timeout=5) as plain, context.wrap_socket(plain) as peer:
                peer.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                answer = peer.recv(100)
        except OSError:
            pass
        want(answer == b"", f"it was answered: {answer}")
        eventually("the refusal is counted", lambda: stat(self.server_admin, "ssl.fail_verify_error") > before, 5)

    def removal(self):
        """Told that its secret is gone, an Envoy keeps what it has for as long as that is valid, and no longer."""
        command = [LANDFAST, "entry", "list", "--output", "json", "--server-socket", ADMIN]
        entries = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        entry = entry_id(json.loads(entries))
        subprocess.run([LANDFAST, "entry", "delete", entry, "--server-socket", ADMIN], check=True, capture_output=True)
        eventually("the removal arrives", lambda: NOTHING in get(self.client_admin, "/stats?filter=version_text")[1], 10)
        want(get(self.client, "/good") == (200, "hello"), "it has lost its secret")
        want(serial(self.client_admin, CLIENT_ID) is not None, "its certificate is gone")
        eventually("the kept certificate runs out", lambda: get(self.client, "/good")[0] == 503, 20)

    def close(self):
        for envoy in self.envoys:
            envoy.terminate()
        for envoy in self.envoys:
            envoy.wait(10)


def entry_id(entries):
    listed = entries["entries"] if isinstance(entries, dict) else entries
    return next(entry["id"] for entry in listed if "envoy-client" in json.dumps(entry))


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    checks, failed = Checks(), False
    try:
        for name, check in (
            ("the first request over mTLS, all through SDS", checks.first),
            (f"{ROTATIONS} rotations under load, no request fails", checks.rotation),
            ("the agent restarts under load, no request fails", checks.restart),
            ("no session is resumed with the settings of docs/envoy.md", checks.resumption),
            ("a peer is refused by the bundle of another trust domain", checks.foreign_bundle),
            ("a peer of another trust domain is refused", checks.foreign_peer),
            ("an Envoy told of a removal keeps its secret until that expires", checks.removal),
        ):
            try:
                check()
            except Exception as cause:  # noqa: BLE001: whatever happens is the finding
                failed = True
                said = f"{type(cause).__name__}: {cause}".replace("\n", " | ")
                print(f"FAIL envoy: {name}: {said[:600]}", flush=True)
            else:
                print(f"ok   envoy: {name}", flush=True)
    finally:
        checks.close()
    print("done envoy", flush=True)
    if failed:
        for log in sorted(WORK.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
    sys.exit(failed)


main()
