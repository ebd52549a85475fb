// Has one of everything, and checks all of it again and again. Each round prints
// "<round> <real-time signals> <alarms> ok", or what is wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long ticks, alarms;
static volatile int off_stack;
static char stack[65536];
static __thread long mine = 4711;

static void on(int signal) {
    char here;
    if (&here < stack || &here >= stack + sizeof stack) off_stack = 1;
    if (signal == SIGALRM) alarms++; else ticks++;
}

// All vector registers hold a pattern while time passes; a fork may happen in between.
__attribute__((target("avx2"))) static int vectors(long seed) {
    long pattern[4] = {seed, seed * 3, ~seed, seed << 7}, out[4];
    int good;
    __asm__ volatile(
        "vmovdqu (%1), %%ymm3\n vmovdqu (%1), %%ymm7\n vmovdqu (%1), %%ymm15\n"
        "mov $60000, %%ecx\n 1: dec %%ecx\n jnz 1b\n"
        "vpcmpeqq %%ymm3, %%ymm15, %%ymm0\n vpcmpeqq %%ymm7, %%ymm15, %%ymm1\n vpand %%ymm0, %%ymm1, %%ymm0\n"
        "vpmovmskb %%ymm0, %0\n vmovdqu %%ymm15, (%2)\n"
        : "=&r"(good) : "r"(pattern), "r"(out) : "ecx", "memory", "cc", "xmm0", "xmm1", "xmm3", "xmm7", "xmm15");
    return good == -1 && !memcmp(pattern, out, sizeof out);
}

__attribute__((target("avx512f"))) static int wide(long seed) {
    long pattern[8], out[8];
    for (int i = 0; i < 8; i++) pattern[i] = seed * (i + 1);
    unsigned short mask = (unsigned short)(seed | 1), mask_out;
    __asm__ volatile(
        "vmovdqu64 (%0), %%zmm17\n vmovdqu64 (%0), %%zmm31\n kmovw %3, %%k3\n"
        "mov $60000, %%ecx\n 1: dec %%ecx\n jnz 1b\n"
        "vpandq %%zmm17, %%zmm31, %%zmm17\n vmovdqu64 %%zmm17, (%1)\n kmovw %%k3, %%eax\n movw %%ax, %2\n"
        : : "r"(pattern), "r"(out), "m"(mask_out), "r"((int)mask)
        : "eax", "ecx", "memory", "cc", "xmm17", "xmm31", "k3");
    return !memcmp(pattern, out, sizeof out) && mask == mask_out;
}

#define CHECK(what) do { if (!(what)) { printf("bad: %s, errno %d\n", #what, errno); fflush(stdout); _exit(1); } } while (0)

static void *other(void *name) {
    mine = 4712;
    prctl(PR_SET_NAME, name);
    for (long n = 1;; n++) {
        CHECK(vectors(n * 77));
        CHECK(mine == 4712);
        usleep(300);
    }
}

int main(int count, char **arguments) {
    int threads = count > 2 ? atoi(arguments[2]) : 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    CHECK(!sigaltstack(&alternate, NULL));
    struct sigaction action = {.sa_handler = on, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGRTMIN, &action, NULL);
    signal(SIGTERM, SIG_IGN);

    int ends[2], pair[2];
    CHECK(!pipe2(ends, O_NONBLOCK) && write(ends[1], "in the pipe", 11) == 11);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && write(pair[0], "in the socket", 13) == 13);
    int event = eventfd(7, EFD_NONBLOCK | EFD_CLOEXEC);
    int file = open(arguments[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(file >= 0 && write(file, "0123456789", 10) == 10 && lseek(file, 5, SEEK_SET) == 5);
    int again = dup(file), far = fcntl(file, F_DUPFD, 40);
    CHECK(again >= 0 && far == 40);

    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    CHECK(!sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 42}));
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGUSR1);
    int signals = signalfd(-1, &taken, SFD_NONBLOCK | SFD_CLOEXEC);

    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec period = {{0, 2000000}, {0, 2000000}};
    CHECK(!timerfd_settime(timer, 0, &period, NULL));
    int set = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(0);
    struct epoll_event item = {.events = EPOLLIN, .data.u64 = 0x1234567890abcdef};
    CHECK(!epoll_ctl(set, EPOLL_CTL_ADD, timer, &item));
    item.data.u64 = 2;
    item.events = EPOLLIN | EPOLLONESHOT;
    CHECK(!epoll_ctl(inner, EPOLL_CTL_ADD, signals, &item));
    item.data.u64 = 3;
    item.events = EPOLLIN;
    CHECK(!epoll_ctl(set, EPOLL_CTL_ADD, inner, &item));

    timer_t posix, posix_other;
    struct sigevent by = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    CHECK(!timer_create(CLOCK_MONOTONIC, &by, &posix_other));
    CHECK(!timer_create(CLOCK_MONOTONIC, &by, &posix));
    struct itimerspec often = {{0, 3000000}, {0, 3000000}};
    CHECK(!timer_settime(posix, 0, &often, NULL));
    CHECK(!timer_delete(posix_other));
    struct itimerval slow = {{0, 7000}, {0, 7000}};
    setitimer(ITIMER_REAL, &slow, NULL);

    umask(027);
    struct rlimit limit = {321, 654};
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_NAME, "the first");
    prctl(PR_SET_TIMERSLACK, 12345);
    // The others have no signal stack of their own.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (int i = 0; i < threads; i++) {
        pthread_t id;
        CHECK(!pthread_create(&id, NULL, other, "another"));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    int avx2 = __builtin_cpu_supports("avx2"), avx512 = __builtin_cpu_supports("avx512f");

    for (unsigned long round = 1;; round++) {
        if (avx2) CHECK(vectors(round * 1234567));
        if (avx512) CHECK(wide(round * 7654321));
        struct epoll_event got;
        int ready;
        while ((ready = epoll_wait(set, &got, 1, 5000)) < 0) CHECK(errno == EINTR);
        CHECK(ready == 1 && got.data.u64 == 0x1234567890abcdef);
        unsigned long long expired;
        CHECK(read(timer, &expired, 8) == 8 && expired > 0);
        int waiting = 0;
        CHECK(!ioctl(ends[0], FIONREAD, &waiting) && waiting == 11);
        CHECK(!ioctl(pair[1], FIONREAD, &waiting) && waiting == 13);
        char bytes[32];
        CHECK(read(ends[0], bytes, 32) == 11 && !memcmp(bytes, "in the pipe", 11));
        CHECK(write(ends[1], bytes, 11) == 11);
        CHECK(recv(pair[1], bytes, 32, MSG_PEEK) == 13 && !memcmp(bytes, "in the socket", 13));
        CHECK(lseek(file, 0, SEEK_CUR) == 5 && lseek(far, 0, SEEK_CUR) == 5);
        CHECK(lseek(again, 6, SEEK_SET) == 6 && lseek(file, 0, SEEK_CUR) == 6 && lseek(far, 5, SEEK_SET) == 5);
        CHECK(fcntl(file, F_GETFD) == FD_CLOEXEC && fcntl(again, F_GETFD) == 0);
        CHECK(read(event, &expired, 8) == 8 && expired == 7);
        CHECK(write(event, &expired, 8) == 8);
        CHECK(read(event, &expired, 8) == 8 && expired == 7 && read(event, &expired, 8) < 0 && errno == EAGAIN);
        expired = 7;
        CHECK(write(event, &expired, 8) == 8);
        sigset_t pending;
        CHECK(!sigpending(&pending) && sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGUSR1));
        sigset_t now;
        sigprocmask(SIG_BLOCK, NULL, &now);
        CHECK(sigismember(&now, SIGUSR1) && sigismember(&now, SIGUSR2) && !sigismember(&now, SIGALRM));
        mode_t mask = umask(027);
        CHECK(mask == 027);
        struct rlimit has;
        CHECK(!getrlimit(RLIMIT_NOFILE, &has) && has.rlim_cur == 321 && has.rlim_max == 654);
        char name[16];
        CHECK(!prctl(PR_GET_NAME, name) && !strcmp(name, "the first"));
        CHECK(prctl(PR_GET_TIMERSLACK) == 12345);
        stack_t current;
        CHECK(!sigaltstack(NULL, &current) && current.ss_sp == stack && current.ss_size == sizeof stack);
        CHECK(mine == 4711 && !off_stack);
        CHECK(getpid() == 1);
        struct itimerspec left;
        CHECK(!timer_gettime(posix, &left) && left.it_interval.tv_nsec == 3000000);
        printf("%lu %lu %lu ok\n", round, ticks, alarms);
    }
}
