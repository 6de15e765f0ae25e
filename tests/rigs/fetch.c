/* A workload in few bytes: sends a canned request and prints what comes back.
 *   fetch SOCKET REQUEST MILLISECONDS [NEEDLE]   one request, until the end, the time or NEEDLE is there
 *   fetch --fd N MILLISECONDS                    reads an inherited connection
 *   fetch --loop SOCKET REQUEST MILLISECONDS NEEDLE
 *                                                request after request on new connections; prints how many were answered with NEEDLE
 *   fetch --script FILE ARGUMENTS...             as an interpreter is called by the kernel: ARGUMENTS as above
 *   fetch --run SOCKET REQUEST COUNT             sends and leaves at once, each time as a new process
 * Built with -DEVIL it says so first: two programs of different content. FETCH_UNLINK removes its own file before it connects. */
#include "rig.h"

static char request[65536], answer[1 << 20];

int main(int argc, char **argv) {
    int ended;
    signal(SIGPIPE, SIG_IGN);
    if (argc > 2 && !strcmp(argv[1], "--script")) {
        argc -= 2;
        argv += 2;
    }
#ifdef EVIL
    if (write(1, "EVIL\n", 5) != 5) die("write");
#endif
    if (argc == 4 && !strcmp(argv[1], "--fd")) {
        size_t n = hear(atoi(argv[2]), answer, sizeof answer, now_ms() + atol(argv[3]), NULL, &ended);
        fwrite(answer, 1, n, stdout);
        return 0;
    }
    if (argc == 6 && !strcmp(argv[1], "--loop")) {
        size_t length = load(argv[3], request);
        long deadline = now_ms() + atol(argv[4]), tries = 0, answered = 0;
        while (now_ms() < deadline) {
            int fd = dial(argv[2]);
            if (say(fd, request, length)) {
                size_t n = hear(fd, answer, sizeof answer, now_ms() + 2000 < deadline ? now_ms() + 2000 : deadline, argv[5], &ended);
                answered += memmem(answer, n, argv[5], strlen(argv[5])) != NULL;
            }
            tries++;
            close(fd);
        }
        printf("tries %ld answered %ld\n", tries, answered);
        return 0;
    }
    if (argc == 5 && !strcmp(argv[1], "--run")) {
        size_t length = load(argv[3], request);
        for (int i = 0; i < atoi(argv[4]); i++) {
            pid_t child = fork();
            if (child < 0) die("fork");
            if (!child) {
                int fd = dial(argv[2]);
                say(fd, request, length);
                _exit(0);
            }
            waitpid(child, NULL, 0);
        }
        return 0;
    }
    if (argc < 4) { errno = EINVAL; die("usage"); }
    if (getenv("FETCH_UNLINK") && unlink(argv[0])) die("unlink");
    size_t length = load(argv[2], request);
    int fd = dial(argv[1]);
    size_t n = 0;
    if (say(fd, request, length))
        n = hear(fd, answer, sizeof answer, now_ms() + atol(argv[3]), argc > 4 ? argv[4] : NULL, &ended);
    fwrite(answer, 1, n, stdout);
    return 0;
}
