/*
 * Starts a program in circumstances that a shell cannot make:
 *
 *   launch plain PROGRAM ...            SIGINT and SIGTERM as a terminal gives them
 *   launch listen PATH PROGRAM ...      descriptor 3 is a socket that listens at PATH
 *   launch connect PATH PROGRAM ...     descriptor 3 is a socket connected to PATH
 *   launch refuse ERRNO PROGRAM ...     io_uring_setup(2) fails with this number, as under a seccomp filter of a container
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(99);
}

static void make_descriptor_3(const char *path, int listening)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    if (s < 0)
        fail("socket");
    if (listening) {
        if (bind(s, (struct sockaddr *)&address, sizeof(address)) || listen(s, 1))
            fail(path);
    } else if (connect(s, (struct sockaddr *)&address, sizeof(address))) {
        fail(path);
    }
    if (s != 3) {
        if (dup2(s, 3) < 0)
            fail("dup2");
        close(s);
    }
}

static void refuse_io_uring(int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        fail("seccomp");
}

int main(int argc, char **argv)
{
    int program = 3;

    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (argc > 2 && !strcmp(argv[1], "plain"))
        program = 2;
    else if (argc > 3 && !strcmp(argv[1], "listen"))
        make_descriptor_3(argv[2], 1);
    else if (argc > 3 && !strcmp(argv[1], "connect"))
        make_descriptor_3(argv[2], 0);
    else if (argc > 3 && !strcmp(argv[1], "refuse"))
        refuse_io_uring(atoi(argv[2]));
    else
        return 98;
    execv(argv[program], argv + program);
    fail(argv[program]);
}
