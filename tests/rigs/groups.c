/* T-39: runs a program as UID with COUNT supplementary groups, from 200000 on.
 *   groups UID COUNT PROGRAM ARGUMENTS... */
#include "rig.h"

static gid_t list[65536];

int main(int argc, char **argv) {
    if (argc < 4) { errno = EINVAL; die("usage"); }
    uid_t uid = (uid_t)atoi(argv[1]);
    size_t count = (size_t)atol(argv[2]);
    if (count > 65536) { errno = EINVAL; die("COUNT"); }
    for (size_t i = 0; i < count; i++) list[i] = (gid_t)(200000 + i);
    if (setgroups(count, list) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) die("become");
    execv(argv[3], argv + 3);
    die("exec");
}
