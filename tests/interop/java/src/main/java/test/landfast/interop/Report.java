package test.landfast.interop;

import io.grpc.Status;

/** Prints one line a check, in the form that ../run counts. An exception inside a check is a failed check. */
final class Report {
    interface Check {
        void run() throws Exception;
    }

    private final String client;
    private boolean failed;

    Report(String client) {
        this.client = client;
    }

    void check(String name, Check check) {
        try {
            check.run();
            System.out.printf("ok   %s: %s%n", client, name);
        } catch (Exception | AssertionError | LinkageError cause) {
            failed = true;
            StringBuilder said = new StringBuilder();
            for (Throwable link = cause; link != null; link = link.getCause()) {
                said.append(said.isEmpty() ? "" : ": ").append(link);
            }
            System.out.printf("FAIL %s: %s: %s%n", client, name, said.toString().replace('\n', ' '));
        }
        System.out.flush();
    }

    /** The line without which ../run counts the client as one that died. Threads of gRPC may linger, hence the exit. */
    void close() {
        System.out.printf("done %s%n", client);
        System.out.flush();
        Runtime.getRuntime().halt(failed ? 1 : 0);
    }

    static void want(boolean condition, Object what) {
        if (!condition) {
            throw new AssertionError(String.valueOf(what));
        }
    }

    static Exception refused(Check check) {
        try {
            check.run();
        } catch (Exception cause) {
            return cause;
        }
        throw new AssertionError("accepted");
    }

    static void refusedWith(Status.Code code, Check check) {
        Exception cause = refused(check);
        for (Throwable link = cause; link != null; link = link.getCause()) {
            Status.Code got = Status.fromThrowable(link).getCode();
            if (got != Status.Code.UNKNOWN) {
                want(got == code, "code " + got + ", want " + code + ": " + link);
                return;
            }
        }
        throw new AssertionError("refused without a gRPC status: " + cause);
    }

    static String env(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            System.err.println(name + " is not set: this program is started by tests/interop/run");
            System.exit(2);
        }
        return value;
    }
}
