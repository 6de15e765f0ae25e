/* T-05: a workload in its own process and mount namespaces, where another program has the path of a known one.
 *   nested UID GOOD OTHER ARGUMENTS...      runs GOOD ARGUMENTS, after OTHER was mounted over it in there */
#include "rig.h"
#include <sched.h>
#include <sys/mount.h>

int main(int argc, char **argv) {
    if (argc < 5) { errno = EINVAL; die("usage"); }
    if (unshare(CLONE_NEWNS | CLONE_NEWPID)) die("unshare");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("make mounts private");
    if (mount(argv[3], argv[2], NULL, MS_BIND, NULL)) die("bind");
    pid_t child = fork();
    if (child < 0) die("fork");
    if (!child) {
        become((uid_t)atoi(argv[1]));
        argv[3] = argv[2];
        execv(argv[2], argv + 3);
        die("exec");
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 9;
}
