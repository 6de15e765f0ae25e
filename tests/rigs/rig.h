/* What the rigs share: fail loudly, connect, read to the end or a deadline. */
#ifndef RIG_H
#define RIG_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Exit status 9 is a fault of the rig or of the machine, never a result. */
static void die(const char *what) {
    fprintf(stderr, "rig: %s: %s\n", what, strerror(errno));
    _exit(9);
}

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000L + t.tv_nsec / 1000000L;
}

static void become(uid_t uid) {
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) die("become");
}

/* A child that would never end by itself ends with its parent. After a change of user: that takes it back. */
static void end_with(pid_t parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) die("pdeathsig");
    if (getppid() != parent) _exit(9);
}

static char state_of(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0) die("a process is gone");
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) die("stat");
    text[n] = 0;
    char *end = strrchr(text, ')');
    return end ? end[2] : '?';
}

/* Stops a process; it has stopped when this returns. */
static void stop_process(pid_t pid) {
    if (kill(pid, SIGSTOP)) die("stop");
    while (state_of(pid) != 'T') usleep(100);
}

static int dial(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) die("socket");
    if (strlen(path) >= sizeof address.sun_path) { errno = ENAMETOOLONG; die(path); }
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    return fd;
}

/* A file's bytes, at most 64 KiB: the canned request. */
static size_t load(const char *path, char *buffer) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) die(path);
    ssize_t length = read(fd, buffer, 65536);
    if (length < 0) die(path);
    close(fd);
    return (size_t)length;
}

/* 0 when the peer has closed already. */
static int say(int fd, const char *bytes, size_t length) {
    return send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length;
}

/* Whether the bytes hold a final word on a stream: HEADERS that end it, RST_STREAM or GOAWAY (RFC 9113 §6). */
static int refused(const unsigned char *bytes, size_t length) {
    for (size_t at = 0; at + 9 <= length; at += 9 + ((size_t)bytes[at] << 16 | (size_t)bytes[at + 1] << 8 | bytes[at + 2]))
        if ((bytes[at + 3] == 1 && bytes[at + 4] & 1) || bytes[at + 3] == 3 || bytes[at + 3] == 7) return 1;
    return 0;
}

/* Reads until the end, the deadline, a refusal, or the first `needle` when one is given; answers the bytes read and whether it ended. */
static size_t hear(int fd, char *buffer, size_t size, long deadline, const char *needle, int *ended) {
    size_t length = 0;
    *ended = 0;
    for (;;) {
        long left = deadline - now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || length == size) return length;
        if (poll(&p, 1, (int)left) <= 0) continue;
        ssize_t got = read(fd, buffer + length, size - length);
        if (got <= 0) { *ended = 1; return length; }
        length += (size_t)got;
        if (needle && refused((unsigned char *)buffer, length)) { *ended = 1; return length; }
        if (needle && memmem(buffer, length, needle, strlen(needle))) return length;
    }
}
#endif
