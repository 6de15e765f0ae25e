"""py-spiffe and spiffe-tls as a workload uses them. grpcio sends the socket's %-encoded path as :authority."""

import logging
import pathlib
import threading
import time

from OpenSSL import crypto
from spiffe import JwtSource, JwtSvid, SpiffeId, TrustDomain, WorkloadApiClient, X509Source
from spiffe.workloadapi.errors import (
    FetchJwtBundleError,
    FetchJwtSvidError,
    FetchX509BundleError,
    FetchX509SvidError,
    ValidateJwtSvidError,
)
from spiffetls import ListenOptions, ServerTlsMode, dial, listen
from spiffetls.tlsconfig.authorize import authorize_id

from report import Report, env, refused, want

DOMAIN = TrustDomain(env("INTEROP_TRUST_DOMAIN"))
FOREIGN = TrustDomain(env("INTEROP_FOREIGN_TRUST_DOMAIN"))
FIRST = SpiffeId(f"spiffe://{DOMAIN.name}/interop/first")
SECOND = SpiffeId(f"spiffe://{DOMAIN.name}/interop/second")
STRANGER = SpiffeId(f"spiffe://{DOMAIN.name}/interop/third")
AUDIENCE = "collector"
DENIED = "StatusCode.PERMISSION_DENIED"
WAIT = 10


def verify(svid, bundles):
    """OpenSSL's opinion, strict: py-spiffe has no path validation of its own."""
    bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    for authority in bundle.x509_authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    between = [crypto.X509.from_cryptography(c) for c in svid.cert_chain[1:]]
    crypto.X509StoreContext(store, crypto.X509.from_cryptography(svid.leaf), between).verify_certificate()


def both(context):
    """Every answer must be whole."""
    ids = sorted(str(s.spiffe_id) for s in context.x509_svids)
    want(ids == sorted([str(FIRST), str(SECOND)]), f"got {ids}")
    for svid in context.x509_svids:
        verify(svid, context.x509_bundle_set)


class Rotation:
    """Watches from the start, so that the other checks run meanwhile."""

    def __init__(self, client):
        self.done = threading.Event()
        self.error = None
        self.serials = {}
        self.rotated = set()
        self.updates = 0
        self.stream = client.stream_x509_contexts(self.on_update, self.on_error)

    def on_update(self, context):
        self.updates += 1
        try:
            both(context)
            for svid in context.x509_svids:
                serial = svid.leaf.serial_number
                if self.serials.setdefault(svid.spiffe_id, serial) != serial:
                    self.rotated.add(svid.spiffe_id)
                self.serials[svid.spiffe_id] = serial
            if len(self.rotated) == 2:
                self.done.set()
        except Exception as cause:  # noqa: BLE001
            self.on_error(cause)

    def on_error(self, cause):
        self.error = cause
        self.done.set()

    def check(self):
        want(self.done.wait(80), f"{self.updates} updates, rotated: {sorted(map(str, self.rotated))}")
        if self.error:
            raise self.error
        self.stream.cancel()


def x509_source():
    with X509Source(timeout_in_seconds=WAIT) as source:
        context = source.get_x509_context()
        want(context.default_svid.spiffe_id in (FIRST, SECOND), context.default_svid.spiffe_id)
        verify(context.default_svid, context.x509_bundle_set)
        for domain in (DOMAIN, FOREIGN):
            bundle = source.get_bundle_for_trust_domain(domain)
            want(bundle and bundle.x509_authorities, f"no X.509 authority of {domain}")


def jwt_source():
    with JwtSource(timeout_in_seconds=WAIT) as source:
        svid = source.fetch_svid({AUDIENCE, "historian"}, subject=SECOND, timeout=WAIT)
        bundle = source.get_bundle_for_trust_domain(DOMAIN)
        valid = JwtSvid.parse_and_validate(svid.token, bundle, {"historian"})
        want(valid.spiffe_id == SECOND, valid.spiffe_id)
        want(set(valid.audience) == {AUDIENCE, "historian"}, valid.audience)
        want(source.get_bundle_for_trust_domain(FOREIGN).jwt_authorities, "no federated JWT authority")


def all_jwts(client):
    ids = sorted(str(s.spiffe_id) for s in client.fetch_jwt_svids({AUDIENCE}, timeout=WAIT))
    want(ids == sorted([str(FIRST), str(SECOND)]), f"got {ids}")


def wrong_audience(client):
    token = client.fetch_jwt_svid({AUDIENCE}, subject=FIRST, timeout=WAIT).token
    want(client.validate_jwt_svid(token, AUDIENCE, timeout=WAIT).spiffe_id == FIRST, "the right audience")
    bundle = client.fetch_jwt_bundles(timeout=WAIT).get_bundle_for_trust_domain(DOMAIN)
    refused(lambda: JwtSvid.parse_and_validate(token, bundle, {"somebody-else"}))
    refused(lambda: client.validate_jwt_svid(token, "somebody-else", timeout=WAIT),
            ValidateJwtSvidError, "StatusCode.INVALID_ARGUMENT")


def bundles(client):
    for fetch, authorities in ((client.fetch_x509_bundles, "x509_authorities"), (client.fetch_jwt_bundles, "jwt_authorities")):
        found = fetch(timeout=WAIT)
        for domain in (DOMAIN, FOREIGN):
            bundle = found.get_bundle_for_trust_domain(domain)
            want(bundle and getattr(bundle, authorities), f"{authorities} of {domain}")


def unregistered():
    with WorkloadApiClient(env("INTEROP_EMPTY_SOCKET")) as client:
        refused(lambda: client.fetch_x509_context(timeout=WAIT), FetchX509SvidError, DENIED)
        refused(lambda: client.fetch_x509_bundles(timeout=WAIT), FetchX509BundleError, DENIED)
        refused(lambda: client.fetch_jwt_svid({AUDIENCE}, timeout=WAIT), FetchJwtSvidError, DENIED)
        refused(lambda: client.fetch_jwt_bundles(timeout=WAIT), FetchJwtBundleError, DENIED)


def source_of(spiffe_id):
    def pick(svids):
        return next(s for s in svids if s.spiffe_id == spiffe_id)

    return X509Source(timeout_in_seconds=WAIT, svid_picker=pick)


def talk(want_server, want_client):
    """The second identity calls the first over mutual TLS, each demanding of the other the ID given."""
    with source_of(FIRST) as server, source_of(SECOND) as client:
        listener = listen("127.0.0.1:0", server,
                          ListenOptions(tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize_id(want_client)))
        outcome = []

        def serve():
            try:
                conn, _ = listener.accept()
                conn.do_handshake()
                said = conn.recv(100)
                conn.send(b"heard " + said)
                outcome.append(None)
            except Exception as cause:  # noqa: BLE001
                outcome.append(cause)
            finally:
                conn.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            conn = dial(f"127.0.0.1:{listener.getsockname()[1]}", client, authorize_fn=authorize_id(want_server))
            conn.send(b"reading")
            want(conn.recv(100) == b"heard reading", "another answer")
            conn.close()
        finally:
            thread.join(WAIT)
            listener.close()
        want(outcome == [None], f"the server: {outcome}")


def wrong_peer():
    # TLS 1.3 tells a refused client only when it reads
    refused(lambda: talk(STRANGER, SECOND))
    refused(lambda: talk(FIRST, STRANGER))


def restart():
    """Holds a source open while ../run restarts the agent, and waits for what only the new one can have sent."""
    folder = pathlib.Path(env("INTEROP_RESTART"))
    with source_of(FIRST) as source:
        (folder / "python.ready").touch()
        before = None
        until = time.monotonic() + 60
        while time.monotonic() < until:
            serial = source.get_x509_context().default_svid.leaf.serial_number
            if not (folder / "restarted").exists():
                before = serial
            elif serial != before:
                return
            time.sleep(0.1)
    raise AssertionError("no new SVID after the restart")


def main():
    logging.disable(logging.CRITICAL)
    client = WorkloadApiClient()
    report = Report("python spiffe")
    rotation = Rotation(WorkloadApiClient())
    report.check("fetch both X509-SVIDs, verified by OpenSSL", lambda: both(client.fetch_x509_context(timeout=WAIT)))
    report.check("X509Source: SVID and bundles", x509_source)
    report.check("bundles: own and federated, X.509 and JWT", lambda: bundles(client))
    report.check("JwtSource: token validates against the JWT bundle", jwt_source)
    report.check("JWT: every identity when none is named", lambda: all_jwts(client))
    report.check("JWT: wrong audience refused here and by the agent", lambda: wrong_audience(client))
    report.check("JWT: an identity of somebody else is denied", lambda: refused(
        lambda: client.fetch_jwt_svid({AUDIENCE}, subject=STRANGER, timeout=WAIT), FetchJwtSvidError, DENIED))
    report.check("unregistered caller denied by every fetch", unregistered)
    report.check("spiffe-tls: mTLS between two SVIDs", lambda: talk(FIRST, SECOND))
    report.check("spiffe-tls: mTLS refuses a peer of another ID", wrong_peer)
    report.check("rotation: the watch delivers a second SVID", rotation.check)
    report.check("spiffe-tls: mTLS after the rotation", lambda: talk(FIRST, SECOND))
    report.check("the source survives a restart of the agent", restart)
    report.close()


if __name__ == "__main__":
    main()
