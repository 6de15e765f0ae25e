/* T-03: a stream that outlives the process that was attested.
 *   handover pass|exec|setuid SOCKET REQUEST COUNT UID OTHER_UID MILLISECONDS NEEDLE READER
 * COUNT processes of UID open a stream each and wait for the first NEEDLE. Then, all together, each
 *   pass    sends its connection to a process of OTHER_UID (SCM_RIGHTS) and exits;
 *   exec    executes READER, another program, which keeps the connection;
 *   setuid  becomes OTHER_UID.
 * Prints "armed N" when all have done so (who passed has exited, the other program has begun), and after MILLISECONDS
 * "before N after N open N slowest N": how many had NEEDLE before, how many heard it afterwards, how many connections were still open, and when the last one was closed (ms). */
#include "rig.h"

static char request[65536], answer[1 << 20];

static void pass(int over, int fd) {
    char data = 'f', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec io = {&data, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(over, &message, 0) != 1) die("sendmsg");
}

static int receive(int over) {
    char data, control[CMSG_SPACE(sizeof(int))];
    struct iovec io = {&data, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd;
    if (recvmsg(over, &message, 0) != 1 || !CMSG_FIRSTHDR(&message)) die("recvmsg");
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* The new holder asks for itself, on a stream of its own, and listens. It reports 'a' when it hears NEEDLE, 'c' and the time when the
 * connection ends, 'o' when it stays open. */
static void hold(int fd, int report, long wait, const char *needle, size_t length) {
    int ended;
    long begin = now_ms();
    /* After the preface and SETTINGS: the same frames, for stream 3. When the connection is closed already nobody hears it. */
    for (size_t at = 33; at + 9 <= length; at += 9 + ((size_t)(unsigned char)request[at] << 16 | (size_t)(unsigned char)request[at + 1] << 8 | (unsigned char)request[at + 2]))
        request[at + 8] = 3;
    say(fd, request + 33, length - 33);
    /* What arrives may begin in the middle of a frame: only the end of the connection counts as one. */
    size_t n = hear(fd, answer, sizeof answer, begin + wait, NULL, &ended);
    char line[32];
    int heard = memmem(answer, n, needle, strlen(needle)) != NULL;
    int chars = snprintf(line, sizeof line, "%c%08ld\n", heard ? 'a' : ended ? 'c' : 'o', now_ms() - begin);
    if (write(report, line, (size_t)chars) != chars) _exit(9);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc == 8 && !strcmp(argv[1], "hold")) { /* after exec: hold FD REPORT MILLISECONDS NEEDLE REQUEST READY */
        int began = atoi(argv[7]);
        if (write(began, "h", 1) != 1) _exit(9);
        close(began);
        hold(atoi(argv[2]), atoi(argv[3]), atol(argv[4]), argv[5], load(argv[6], request));
    }
    if (argc != 10) { errno = EINVAL; die("usage"); }
    size_t length = load(argv[3], request);
    int count = atoi(argv[4]), report[2], ready[2], go[2], gone[2];
    pid_t *children = calloc((size_t)count, sizeof *children);
    if (!children) die("calloc");
    uid_t uid = (uid_t)atoi(argv[5]), other = (uid_t)atoi(argv[6]);
    long wait = atol(argv[7]);
    if (pipe(report) || pipe(ready) || pipe(go) || pipe(gone)) die("pipe");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1)) die("subreaper");
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0) die("fork");
        children[i] = child;
        if (child) continue;
        int over[2], ended, by_pass = !strcmp(argv[1], "pass");
        close(go[1]);
        close(gone[1]);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, over)) die("socketpair");
        if (by_pass) {
            pid_t holder = fork();
            if (holder < 0) die("fork");
            if (!holder) {
                close(over[0]);
                become(other);
                int fd = receive(over[1]);
                char any;
                /* While the first holder lives the connection is its own, whoever asks. */
                if (write(ready[1], "h", 1) != 1 || read(gone[0], &any, 1) < 0) _exit(9);
                hold(fd, report[1], wait, argv[8], length);
            }
        }
        if (!strcmp(argv[1], "setuid")) {
            /* Keeps the right to change back, as a daemon does that drops privileges later. */
            if (setresgid(uid, uid, 0) || setresuid(uid, uid, 0)) die("setresuid");
        } else {
            become(uid);
        }
        int fd = dial(argv[2]);
        if (!say(fd, request, length)) die("the agent closed at once");
        size_t n = hear(fd, answer, sizeof answer, now_ms() + 10000, argv[8], &ended);
        char had = memmem(answer, n, argv[8], strlen(argv[8])) ? 'y' : 'n';
        if (write(ready[1], &had, 1) != 1) _exit(9);
        char any;
        if (read(go[0], &any, 1) < 0) die("read");
        if (by_pass) {
            pass(over[0], fd);
            _exit(0);
        }
        if (!strcmp(argv[1], "setuid")) {
            if (setresuid((uid_t)-1, 0, (uid_t)-1) || setresuid(other, other, other)) die("setresuid");
            if (write(ready[1], "h", 1) != 1) _exit(9);
            hold(fd, report[1], wait, argv[8], length);
        }
        /* It says itself that it has begun: until then the old program holds the stream. */
        char fds[3][16];
        snprintf(fds[0], 16, "%d", fd);
        snprintf(fds[1], 16, "%d", report[1]);
        snprintf(fds[2], 16, "%d", ready[1]);
        execl(argv[9], argv[9], "hold", fds[0], fds[1], argv[7], argv[8], argv[3], fds[2], (char *)NULL);
        die("exec");
    }
    close(report[1]);
    close(ready[1]);
    close(go[0]);
    close(gone[0]);
    int before = 0, armed = 0, after = 0, open = 0;
    long slowest = 0;
    char byte;
    for (int i = 0; i < count; i++) {
        if (read(ready[0], &byte, 1) != 1) die("a process died");
        before += byte == 'y';
    }
    close(go[1]);
    while (armed < count && read(ready[0], &byte, 1) == 1) armed += byte == 'h';
    /* Who has sent its connection lives until it has exited, and what is pushed until then is still its own. */
    for (int i = 0; i < count && !strcmp(argv[1], "pass"); i++)
        if (waitpid(children[i], NULL, 0) != children[i]) die("waitpid");
    close(gone[1]);
    printf("armed %d\n", armed);
    fflush(stdout);
    FILE *lines = fdopen(report[0], "r");
    char line[32];
    while (fgets(line, sizeof line, lines)) {
        long took = atol(line + 1);
        after += line[0] == 'a';
        open += line[0] == 'o';
        if (line[0] == 'c' && took > slowest) slowest = took;
    }
    while (waitpid(-1, NULL, 0) > 0) {}
    printf("before %d after %d open %d slowest %ld\n", before, after, open, slowest);
    return 0;
}
