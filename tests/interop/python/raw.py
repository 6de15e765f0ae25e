"""grpcio alone, without a SPIFFE library: authorities and headers as no library lets one choose them."""

from urllib.parse import quote, urlparse

import grpc
from spiffe._proto import workload_pb2, workload_pb2_grpc

from report import Report, env, refused_with, want

SOCKET = urlparse(env("SPIFFE_ENDPOINT_SOCKET")).path
HEADER = (("workload.spiffe.io", "true"),)
JWT = workload_pb2.JWTSVIDRequest(audience=["collector"])
WAIT = 10


def stub(*options):
    channel = grpc.insecure_channel(f"unix:{SOCKET}", options=options)
    return workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)


def first(call):
    """The first message of a stream, which is then left."""
    try:
        return next(call)
    finally:
        call.cancel()


def authority(*options):
    client = stub(*options)
    for turn in range(20):  # later calls send the authority from the compression table, among new headers
        extra = HEADER + ((f"x-turn-{turn}", "/" * turn + "%" * (turn % 3)),)
        want(len(client.FetchJWTSVID(JWT, metadata=extra, timeout=WAIT).svids) == 2, "two tokens")
    want(len(first(client.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER, timeout=WAIT)).svids) == 2, "two SVIDs")


def large_headers():
    """Close to the 16 KB that one frame holds."""
    client = stub(("grpc.max_metadata_size", 64 * 1024))
    for size in (5_000, 15_000):
        try:
            answer = client.FetchJWTSVID(JWT, metadata=HEADER + (("x-large", "v" * size),), timeout=WAIT)
            want(len(answer.svids) == 2, "two tokens")
        except grpc.RpcError as cause:  # refused for its size is fine; a broken connection is not
            too_large = cause.code() == grpc.StatusCode.UNKNOWN and "431" in cause.details()  # HTTP's own answer
            want(too_large or cause.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL), cause)
    want(len(client.FetchJWTSVID(JWT, metadata=HEADER, timeout=WAIT).svids) == 2, "the connection afterwards")


def without_header():
    client = stub()
    wrong = ((), (("workload.spiffe.io", "True"),), (("workload.spiffe.io", "1"),), (("workload.spiffe.io", ""),))
    for metadata in wrong:
        refused_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: client.FetchJWTSVID(JWT, metadata=metadata, timeout=WAIT))
        for method, request in (
            (client.FetchX509SVID, workload_pb2.X509SVIDRequest()),
            (client.FetchX509Bundles, workload_pb2.X509BundlesRequest()),
            (client.FetchJWTBundles, workload_pb2.JWTBundlesRequest()),
        ):
            refused_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: first(method(request, metadata=metadata, timeout=WAIT)))


def missing_fields():
    client = stub()
    token = client.FetchJWTSVID(JWT, metadata=HEADER, timeout=WAIT).svids[0].svid
    for call in (
        lambda: client.FetchJWTSVID(workload_pb2.JWTSVIDRequest(), metadata=HEADER, timeout=WAIT),
        lambda: client.FetchJWTSVID(workload_pb2.JWTSVIDRequest(audience=["a"], spiffe_id="x"), metadata=HEADER, timeout=WAIT),
        lambda: client.ValidateJWTSVID(workload_pb2.ValidateJWTSVIDRequest(svid=token), metadata=HEADER, timeout=WAIT),
        lambda: client.ValidateJWTSVID(workload_pb2.ValidateJWTSVIDRequest(audience="a"), metadata=HEADER, timeout=WAIT),
        lambda: client.ValidateJWTSVID(workload_pb2.ValidateJWTSVIDRequest(audience="a", svid="no token"), metadata=HEADER, timeout=WAIT),
    ):
        refused_with(grpc.StatusCode.INVALID_ARGUMENT, call)


def main():
    report = Report("grpcio")
    report.check("default authority", authority)
    report.check("raw path as authority", lambda: authority(("grpc.default_authority", SOCKET)))
    report.check("encoded path as authority", lambda: authority(("grpc.default_authority", quote(SOCKET, safe=""))))
    report.check("authority of 4 KB", lambda: authority(("grpc.default_authority", "/%" * 2000)))
    report.check("large headers neither break nor block the connection", large_headers)
    report.check("no call without the security header", without_header)
    report.check("mandatory fields", missing_fields)
    report.close()


if __name__ == "__main__":
    main()
