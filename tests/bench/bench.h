/* What the camera, the floor and the load client of the benchmark share. Loopback only. */
#pragma once

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The wire form of mjrelay/formats/multipart.py. */
#define BOUNDARY "boundarydonotcross"
#define OPENING "--" BOUNDARY "\r\n"
#define CLOSING "\r\n" OPENING
#define ANSWER                                                          \
    "HTTP/1.0 200 OK\r\nConnection: close\r\n"                          \
    "Content-Type: multipart/x-mixed-replace; boundary=" BOUNDARY "\r\n" \
    "\r\n" OPENING
#define HEAD_MAX 512

/* Behind its SOI each picture has a comment segment: "bench ", its number in 10 digits, a blank,
   and when the camera sent it in 20 digits: nanoseconds of CLOCK_MONOTONIC. */
#define STAMP_START "\xff\xd8\xff\xfe\x00\x27" "bench "
#define NUMBER_AT 12
#define NUMBER_DIGITS 10
#define TIME_AT 23
#define TIME_DIGITS 20
#define STAMP_END 43

#define SECOND 1000000000LL

__attribute__((noreturn)) static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "wrong");
    exit(1);
}

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static inline void *need(void *memory) {
    if (!memory)
        die("memory");
    return memory;
}

static inline struct sockaddr_in loopback(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A socket that listens; 0 lets the kernel choose the port. The port is printed. */
static inline int listen_on(const char *port) {
    struct sockaddr_in address = loopback(port);
    socklen_t size = sizeof address;
    int on = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* inherited when accepting */
    if (bind(sock, (struct sockaddr *)&address, sizeof address) || listen(sock, 1024))
        die("listen");
    getsockname(sock, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return sock;
}

static inline void watch(int epoll, int operation, int fd, uint32_t events, void *who) {
    struct epoll_event event = {.events = events, .data.ptr = who};
    if (epoll_ctl(epoll, operation, fd, &event))
        die("epoll_ctl");
}

/* One part as it is sent: its head, the image and the next boundary line. */
struct part {
    struct iovec pieces[3];
    size_t size;
};

static inline struct part part_of(char *head, char *image, size_t length) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(head, HEAD_MAX,
                        "Content-Type: image/jpeg\r\nContent-Length: %zu\r\n"
                        "X-Timestamp: %lld.%06ld\r\n\r\n",
                        length, (long long)now.tv_sec, now.tv_nsec / 1000);
    struct part part = {{{head, (size_t)size}, {image, length}, {CLOSING, sizeof CLOSING - 1}},
                        (size_t)size + length + sizeof CLOSING - 1};
    return part;
}

/* Send what follows the first `sent` bytes of a part; what the kernel took, 0 if it is busy, or -1
   if the peer is gone. */
static inline ssize_t send_part(int sock, const struct part *part, size_t sent) {
    struct iovec rest[3];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        struct iovec piece = part->pieces[i];
        if (sent >= piece.iov_len) {
            sent -= piece.iov_len;
            continue;
        }
        rest[count++] = (struct iovec){(char *)piece.iov_base + sent, piece.iov_len - sent};
        sent = 0;
    }
    ssize_t taken = writev(sock, rest, count);
    return taken >= 0 ? taken : errno == EAGAIN ? 0 : -1;
}
