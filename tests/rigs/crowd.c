/* Very many workloads, each a process and a user of its own, each with a connection and a stream.
 *   crowd SOCKET REQUEST COUNT FIRST_UID
 * Prints "served N" when each has had its first SVID. Then, for each line on its standard input, it waits until each has had one message
 * more and prints "pushed N after MS", MS from the reading of the line. Ends with its input, or when nothing comes for a minute. */
#include "rig.h"
#include <sys/mman.h>
#include <sys/resource.h>

static char request[65536], buffer[65536];

struct tally {
    unsigned messages[65536];
    unsigned failed;
};

/* Counts the DATA frames that begin a message: an SVID fits into one. */
static void child(const char *path, size_t length, uid_t uid, pid_t parent, unsigned *messages, unsigned *failed) {
    become(uid);
    end_with(parent);
    int fd = dial(path);
    if (!say(fd, request, length)) _exit(9);
    size_t have = 0;
    for (;;) {
        ssize_t got = read(fd, buffer + have, sizeof buffer - have);
        if (got <= 0) {
            __atomic_fetch_add(failed, 1, __ATOMIC_RELAXED);
            _exit(1);
        }
        have += (size_t)got;
        size_t at = 0;
        while (at + 9 <= have) {
            unsigned char *f = (unsigned char *)buffer + at;
            size_t size = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
            if (at + 9 + size > have) break;
            if (f[3] == 0 && size > 5) __atomic_fetch_add(messages, 1, __ATOMIC_RELAXED);
            if (f[3] == 6 && !(f[4] & 1)) { /* PING: answered, so that the agent keeps us */
                f[4] = 1;
                say(fd, (char *)f, 9 + size);
            }
            if (f[3] == 4 && !(f[4] & 1)) say(fd, "\0\0\0\4\1\0\0\0\0", 9);
            at += 9 + size;
        }
        memmove(buffer, buffer + at, have - at);
        have -= at;
    }
}

static long wait_for(struct tally *tally, int count, unsigned wanted) {
    long begin = now_ms();
    for (int i = 0; i < count;) {
        if (__atomic_load_n(&tally->messages[i], __ATOMIC_RELAXED) >= wanted) { i++; continue; }
        if (now_ms() - begin > 60000 || __atomic_load_n(&tally->failed, __ATOMIC_RELAXED)) {
            printf("gave up: %d of %d had %u messages, %u failed\n", i, count, wanted, tally->failed);
            exit(1);
        }
        usleep(1000);
    }
    return now_ms() - begin;
}

int main(int argc, char **argv) {
    if (argc != 5) { errno = EINVAL; die("usage"); }
    struct rlimit limit = {65536, 65536};
    setrlimit(RLIMIT_NPROC, &limit);
    size_t length = load(argv[2], request);
    int count = atoi(argv[3]);
    pid_t own = getpid();
    if (count > 65536) { errno = EINVAL; die("COUNT"); }
    struct tally *tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED) die("mmap");
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid < 0) die("fork");
        if (!pid) child(argv[1], length, (uid_t)(atoi(argv[4]) + i), own, &tally->messages[i], &tally->failed);
        if (i % 50 == 49) wait_for(tally, i - 40, 1); /* not all at the door at once */
    }
    wait_for(tally, count, 1);
    printf("served %d\n", count);
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        unsigned wanted = 0;
        for (int i = 0; i < count; i++)
            if (tally->messages[i] > wanted) wanted = tally->messages[i];
        /* Pushed to each exactly once so far: whoever has fewer is late, and counts. */
        printf("ready %u\n", wanted);
        fflush(stdout);
        printf("pushed %d after %ld\n", count, wait_for(tally, count, wanted + 1));
        fflush(stdout);
    }
    return 0;
}
