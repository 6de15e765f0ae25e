/* T-06: a program whose file changes under it.
 *   swap race UID PATH GOOD EVIL ROUNDS ARGUMENTS...   runs PATH ARGUMENTS again and again as UID, while PATH is renamed over by links to
 *                                                      GOOD and EVIL in turn; the last argument is the needle to look for
 *   swap stop UID PATH GOOD EVIL ROUNDS AGENT_PID ARGUMENTS...
 *                                                      the race decided: EVIL runs as PATH and asks while the agent is stopped; then GOOD is
 *                                                      put there, and also where the kernel's name of a file that is gone leads: "PATH (deleted)"
 *   swap memfd UID FILE ARGUMENTS...                   runs FILE's content from memory
 * Race and stop print "rounds N good N evil N wrong N mute N": who ran, how often EVIL had the needle in its answer, and in how many rounds nobody
 * was answered at all. */
#include "rig.h"
#include <sys/mman.h>

static char answer[1 << 20];

static void put(const char *from, const char *to) {
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.new", to);
    unlink(temporary);
    if (link(from, temporary) || rename(temporary, to)) die("put");
}

static void swap_for_ever(const char *good, const char *evil, const char *path) {
    for (;;) {
        put(evil, path);
        usleep(4000);
        put(good, path);
        usleep(4000);
    }
}

int main(int argc, char **argv) {
    if (argc > 4 && !strcmp(argv[1], "memfd")) {
        static char copy[1 << 22];
        int file = open(argv[3], O_RDONLY), memory = memfd_create("program", MFD_CLOEXEC);
        if (file < 0 || memory < 0) die("memfd");
        ssize_t n = read(file, copy, sizeof copy);
        if (n <= 0 || n == sizeof copy || write(memory, copy, (size_t)n) != n) die("copy");
        become((uid_t)atoi(argv[2]));
        fexecve(memory, argv + 3, environ);
        die("fexecve");
    }
    int stop = argc > 9 && !strcmp(argv[1], "stop"), first = stop ? 8 : 7;
    if (argc < first + 1 || (!stop && strcmp(argv[1], "race"))) { errno = EINVAL; die("usage"); }
    const char *path = argv[3], *needle = argv[argc - 1];
    uid_t uid = (uid_t)atoi(argv[2]);
    pid_t agent = stop ? atoi(argv[7]) : 0, swapper = 0, own = getpid();
    int rounds = atoi(argv[6]), good = 0, evil = 0, wrong = 0, mute = 0;
    char gone[4096];
    snprintf(gone, sizeof gone, "%s (deleted)", path);
    put(argv[4], path);
    if (!stop) {
        swapper = fork();
        if (swapper < 0) die("fork");
        if (!swapper) {
            end_with(own);
            swap_for_ever(argv[4], argv[5], path);
        }
    }
    for (int round = 0; round < rounds; round++) {
        int out[2], ended;
        if (pipe(out)) die("pipe");
        if (stop) {
            put(argv[5], path);
            stop_process(agent);
        }
        pid_t child = fork();
        if (child < 0) die("fork");
        if (!child) {
            dup2(out[1], 1);
            close(out[0]);
            become(uid);
            argv[first - 1] = (char *)path;
            execv(path, argv + first - 1);
            die("exec");
        }
        close(out[1]);
        size_t n = 0;
        if (stop) {
            /* EVIL's first words: it runs. What it asks waits in the socket. */
            n = hear(out[0], answer, sizeof answer, now_ms() + 10000, "EVIL\n", &ended);
            put(argv[4], path);
            put(argv[4], gone);
            if (kill(agent, SIGCONT)) die("continue the agent");
        }
        n += hear(out[0], answer + n, sizeof answer - n, now_ms() + 10000, NULL, &ended);
        close(out[0]);
        waitpid(child, NULL, 0);
        int bad = n >= 4 && !memcmp(answer, "EVIL", 4);
        int has = memmem(answer, n, needle, strlen(needle)) != NULL;
        evil += bad;
        good += !bad && has;
        wrong += bad && has;
        mute += n <= (bad ? 5 : 0);
    }
    if (swapper) {
        kill(swapper, SIGKILL);
        waitpid(swapper, NULL, 0);
    }
    printf("rounds %d good %d evil %d wrong %d mute %d\n", rounds, good, evil, wrong, mute);
    return 0;
}
