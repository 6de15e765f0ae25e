package test.landfast.interop;

import static test.landfast.interop.Report.env;
import static test.landfast.interop.Report.refused;
import static test.landfast.interop.Report.refusedWith;
import static test.landfast.interop.Report.want;

import io.grpc.Status;
import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.spiffeid.TrustDomain;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.CachedJwtSource;
import io.spiffe.workloadapi.DefaultJwtSource;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.JwtSource;
import io.spiffe.workloadapi.JwtSourceOptions;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import io.spiffe.workloadapi.X509Source;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.logging.Level;
import java.util.logging.Logger;

/** java-spiffe as a workload uses it. */
public final class Workload {
    static final TrustDomain DOMAIN = TrustDomain.parse(env("INTEROP_TRUST_DOMAIN"));
    static final TrustDomain FOREIGN = TrustDomain.parse(env("INTEROP_FOREIGN_TRUST_DOMAIN"));
    static final SpiffeId FIRST = SpiffeId.fromSegments(DOMAIN, "interop", "first");
    static final SpiffeId SECOND = SpiffeId.fromSegments(DOMAIN, "interop", "second");
    static final SpiffeId STRANGER = SpiffeId.fromSegments(DOMAIN, "interop", "third");
    static final String AUDIENCE = "collector";
    static final Duration WAIT = Duration.ofSeconds(10);

    private Workload() {}

    public static void main(String[] args) throws Exception {
        Logger.getLogger("").setLevel(Level.OFF);
        Report report = new Report("java-spiffe");
        WorkloadApiClient client = clientAt(env("SPIFFE_ENDPOINT_SOCKET"));
        Rotation rotation = new Rotation();
        client.watchX509Context(rotation);

        report.check("fetch both X509-SVIDs, verified against the bundle", () -> both(client.fetchX509Context()));
        report.check("X509Source: SVID and bundles", Workload::x509Source);
        report.check("bundles: own and federated, X.509 and JWT", () -> bundles(client));
        report.check("JwtSource: token validates against the JWT bundle", Workload::jwtSource);
        report.check("CachedJwtSource: every identity when none is named", Workload::cachedJwtSource);
        report.check("JWT: wrong audience refused here and by the agent", () -> wrongAudience(client));
        report.check("JWT: an identity of somebody else is denied", () ->
                refusedWith(Status.Code.PERMISSION_DENIED, () -> client.fetchJwtSvid(STRANGER, AUDIENCE)));
        report.check("unregistered caller denied by every fetch", Workload::unregistered);
        report.check("provider: mTLS between two SVIDs", () -> MutualTls.talk(FIRST, SECOND));
        report.check("provider: mTLS refuses a peer of another ID", () -> {
            refused(() -> MutualTls.talk(STRANGER, SECOND));
            refused(() -> MutualTls.talk(FIRST, STRANGER));
        });
        report.check("rotation: the watch delivers a second SVID", rotation::await);
        report.check("provider: mTLS after the rotation", () -> MutualTls.talk(FIRST, SECOND));
        report.check("the source survives a restart of the agent", Workload::restart);
        report.close();
    }

    static WorkloadApiClient clientAt(String socket) throws Exception {
        return DefaultWorkloadApiClient.newClient(
                DefaultWorkloadApiClient.ClientOptions.builder().spiffeSocketPath(socket).build());
    }

    static X509Source sourceOf(SpiffeId id) throws Exception {
        return DefaultX509Source.newSource(DefaultX509Source.X509SourceOptions.builder()
                .initTimeout(WAIT)
                .svidPicker(svids -> svids.stream().filter(s -> s.getSpiffeId().equals(id)).findFirst().orElseThrow())
                .build());
    }

    /** Every answer must be whole. */
    static void both(X509Context context) throws Exception {
        Map<SpiffeId, String> hints = new HashMap<>();
        for (X509Svid svid : context.getX509Svids()) {
            hints.put(svid.getSpiffeId(), svid.getHint());
            X509SvidValidator.verifyChain(svid.getChain(), context.getX509BundleSet());
        }
        want(hints.equals(Map.of(FIRST, "first", SECOND, "second")), hints);
    }

    private static void x509Source() throws Exception {
        try (X509Source source = DefaultX509Source.newSource(
                DefaultX509Source.X509SourceOptions.builder().initTimeout(WAIT).build())) {
            X509Svid svid = source.getX509Svid();
            X509SvidValidator.verifyChain(svid.getChain(), source);
            X509SvidValidator.verifySpiffeId(svid.getLeaf(), () -> Set.of(FIRST, SECOND));
            want(!source.getBundleForTrustDomain(FOREIGN).getX509Authorities().isEmpty(), "no federated authority");
        }
    }

    private static void bundles(WorkloadApiClient client) throws Exception {
        for (TrustDomain domain : List.of(DOMAIN, FOREIGN)) {
            want(!client.fetchX509Bundles().getBundleForTrustDomain(domain).getX509Authorities().isEmpty(), domain);
            want(!client.fetchJwtBundles().getBundleForTrustDomain(domain).getJwtAuthorities().isEmpty(), domain);
        }
    }

    private static void jwtSource() throws Exception {
        try (JwtSource source = DefaultJwtSource.newSource(JwtSourceOptions.builder().initTimeout(WAIT).build())) {
            JwtSvid svid = source.fetchJwtSvid(SECOND, AUDIENCE, "historian");
            JwtSvid valid = JwtSvid.parseAndValidate(svid.getToken(), source, Set.of("historian"));
            want(valid.getSpiffeId().equals(SECOND), valid.getSpiffeId());
            want(valid.getAudience().equals(Set.of(AUDIENCE, "historian")), valid.getAudience());
            want(!source.getBundleForTrustDomain(FOREIGN).getJwtAuthorities().isEmpty(), "no federated JWT authority");
        }
    }

    private static void cachedJwtSource() throws Exception {
        try (JwtSource source = CachedJwtSource.newSource(JwtSourceOptions.builder().initTimeout(WAIT).build())) {
            Map<SpiffeId, String> hints = new HashMap<>();
            for (JwtSvid svid : source.fetchJwtSvids(AUDIENCE)) {
                hints.put(svid.getSpiffeId(), svid.getHint());
            }
            want(hints.equals(Map.of(FIRST, "first", SECOND, "second")), hints);
        }
    }

    private static void wrongAudience(WorkloadApiClient client) throws Exception {
        String token = client.fetchJwtSvid(FIRST, AUDIENCE).getToken();
        want(client.validateJwtSvid(token, AUDIENCE).getSpiffeId().equals(FIRST), "the right audience");
        refused(() -> JwtSvid.parseAndValidate(token, client.fetchJwtBundles(), Set.of("somebody-else")));
        refusedWith(Status.Code.INVALID_ARGUMENT, () -> client.validateJwtSvid(token, "somebody-else"));
    }

    private static void unregistered() throws Exception {
        try (WorkloadApiClient client = clientAt(env("INTEROP_EMPTY_SOCKET"))) {
            refusedWith(Status.Code.PERMISSION_DENIED, client::fetchX509Context);
            refusedWith(Status.Code.PERMISSION_DENIED, client::fetchX509Bundles);
            refusedWith(Status.Code.PERMISSION_DENIED, () -> client.fetchJwtSvid(AUDIENCE));
            refusedWith(Status.Code.PERMISSION_DENIED, client::fetchJwtBundles);
        }
    }

    /** Holds a source open while ../run restarts the agent, and waits for what only the new one can have sent. */
    private static void restart() throws Exception {
        Path folder = Path.of(env("INTEROP_RESTART"));
        try (X509Source source = sourceOf(FIRST)) {
            Files.createFile(folder.resolve("java.ready"));
            BigInteger before = null;
            for (int turn = 0; turn < 600; turn++) {
                BigInteger serial = source.getX509Svid().getLeaf().getSerialNumber();
                if (!Files.exists(folder.resolve("restarted"))) {
                    before = serial;
                } else if (!serial.equals(before)) {
                    return;
                }
                Thread.sleep(100);
            }
        }
        throw new AssertionError("no new SVID after the restart");
    }
}
