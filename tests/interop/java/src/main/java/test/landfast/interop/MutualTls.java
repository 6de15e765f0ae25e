package test.landfast.interop;

import static test.landfast.interop.Report.want;

import io.spiffe.provider.SpiffeSslContextFactory;
import io.spiffe.provider.SpiffeSslContextFactory.SslContextOptions;
import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.workloadapi.X509Source;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;

/** The second identity calls the first over mutual TLS, each demanding of the other the ID given. */
final class MutualTls {
    private static final byte[] READING = "reading".getBytes(StandardCharsets.UTF_8);

    private MutualTls() {}

    static void talk(SpiffeId wantServer, SpiffeId wantClient) throws Exception {
        try (X509Source server = Workload.sourceOf(Workload.FIRST);
                X509Source client = Workload.sourceOf(Workload.SECOND);
                SSLServerSocket listener = (SSLServerSocket) context(server, wantClient).getServerSocketFactory()
                        .createServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            listener.setNeedClientAuth(true);
            listener.setSoTimeout(10_000);
            CompletableFuture<Void> served = CompletableFuture.runAsync(() -> echo(listener));
            try (SSLSocket socket = (SSLSocket) context(client, wantServer).getSocketFactory()
                    .createSocket(InetAddress.getLoopbackAddress(), listener.getLocalPort())) {
                socket.setSoTimeout(10_000);
                socket.getOutputStream().write(READING);
                byte[] answer = socket.getInputStream().readNBytes(READING.length);
                want(new String(answer, StandardCharsets.UTF_8).equals("reading"), "another answer");
            }
            served.get(10, TimeUnit.SECONDS);
        }
    }

    private static SSLContext context(X509Source source, SpiffeId accepted) throws Exception {
        return SpiffeSslContextFactory.getSslContext(SslContextOptions.builder()
                .x509Source(source)
                .acceptedSpiffeIdsSupplier(() -> Set.of(accepted))
                .build());
    }

    private static void echo(SSLServerSocket listener) {
        try (SSLSocket socket = (SSLSocket) listener.accept()) {
            socket.setSoTimeout(10_000);
            socket.getOutputStream().write(socket.getInputStream().readNBytes(READING.length));
        } catch (Exception cause) {
            throw new IllegalStateException("the server", cause);
        }
    }
}
