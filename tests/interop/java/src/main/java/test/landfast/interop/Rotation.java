package test.landfast.interop;

import static test.landfast.interop.Report.want;

import io.spiffe.spiffeid.SpiffeId;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.X509Context;
import java.math.BigInteger;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Watches from the start, so that the other checks run meanwhile. Both identities must be seen to change. */
final class Rotation implements Watcher<X509Context> {
    private final CountDownLatch done = new CountDownLatch(1);
    private final Map<SpiffeId, BigInteger> serials = new HashMap<>();
    private final Set<SpiffeId> rotated = new HashSet<>();
    private volatile int updates;
    private volatile Throwable error;

    @Override
    public synchronized void onUpdate(X509Context context) {
        updates++;
        try {
            Workload.both(context);
        } catch (Exception | AssertionError cause) {
            onError(cause);
            return;
        }
        for (X509Svid svid : context.getX509Svids()) {
            BigInteger serial = svid.getLeaf().getSerialNumber();
            BigInteger before = serials.put(svid.getSpiffeId(), serial);
            if (before != null && !before.equals(serial)) {
                rotated.add(svid.getSpiffeId());
            }
        }
        if (rotated.size() == 2) {
            done.countDown();
        }
    }

    @Override
    public void onError(Throwable cause) {
        error = cause;
        done.countDown();
    }

    void await() throws Exception {
        want(done.await(80, TimeUnit.SECONDS), updates + " updates, rotated: " + rotated);
        if (error != null) {
            throw new Exception("the watch broke after " + updates + " updates", error);
        }
    }
}
