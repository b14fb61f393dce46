/* A camera for the benchmark: stamped pictures over HTTP at an exact rate.

       camera PORT FPS PICTURE...

   Each picture file is a JPEG with room for a stamp (see bench.h). All connections are sent the
   same frames. One that has not taken the frame before misses the next, as with a real camera. It
   ends when its standard input does. */
#include "bench.h"

struct viewer {
    int sock;
    bool asked; /* A blank line has come: it wants pictures. */
    char tail[4];
    char head[HEAD_MAX];
    struct part part;
    size_t sent;
    struct viewer *next;
};

static int epoll;
static struct viewer *viewers;

static void leave(struct viewer *viewer) {
    struct viewer **link = &viewers;
    while (*link != viewer)
        link = &(*link)->next;
    *link = viewer->next;
    close(viewer->sock);
    free(viewer);
}

static void push(struct viewer *viewer) {
    ssize_t taken = send_part(viewer->sock, &viewer->part, viewer->sent);
    if (taken < 0) {
        leave(viewer);
        return;
    }
    bool was_busy = viewer->sent > 0;
    viewer->sent += (size_t)taken;
    if (viewer->sent == viewer->part.size)
        viewer->sent = 0;
    bool is_busy = viewer->sent > 0;
    if (is_busy != was_busy)
        watch(epoll, EPOLL_CTL_MOD, viewer->sock, EPOLLIN | (is_busy ? EPOLLOUT : 0u), viewer);
}

static void hear(struct viewer *viewer) {
    char data[4096];
    ssize_t size = recv(viewer->sock, data, sizeof data, 0);
    if (size <= 0) {
        leave(viewer);
        return;
    }
    for (ssize_t i = 0; i < size && !viewer->asked; i++) {
        memmove(viewer->tail, viewer->tail + 1, 3);
        viewer->tail[3] = data[i];
        if (!memcmp(viewer->tail, "\r\n\r\n", 4)) {
            viewer->asked = true;
            if (send(viewer->sock, ANSWER, sizeof ANSWER - 1, 0) < 0)
                die("answer");
        }
    }
}

static void take(int listener) {
    int sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (sock < 0)
        return;
    struct viewer *viewer = need(calloc(1, sizeof *viewer));
    viewer->sock = sock;
    viewer->next = viewers;
    viewers = viewer;
    watch(epoll, EPOLL_CTL_ADD, sock, EPOLLIN, viewer);
}

static struct iovec load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        die(path);
    struct iovec picture = {.iov_len = (size_t)ftell(file)};
    picture.iov_base = need(malloc(picture.iov_len));
    rewind(file);
    if (fread(picture.iov_base, 1, picture.iov_len, file) != picture.iov_len ||
        picture.iov_len < STAMP_END ||
        memcmp(picture.iov_base, STAMP_START, sizeof STAMP_START - 1))
        die(path);
    fclose(file);
    return picture;
}

int main(int count, char **arguments) {
    if (count < 4) {
        fputs("camera PORT FPS PICTURE...\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    double fps = atof(arguments[2]);
    int pictures = count - 3;
    struct iovec *picture = need(calloc((size_t)pictures, sizeof *picture));
    for (int i = 0; i < pictures; i++)
        picture[i] = load(arguments[3 + i]);

    int listener = listen_on(arguments[1]);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, &listener);
    watch(epoll, EPOLL_CTL_ADD, timer, EPOLLIN, &timer);
    int input = STDIN_FILENO;
    watch(epoll, EPOLL_CTL_ADD, input, EPOLLIN, &input);
    int64_t interval = (int64_t)(1e9 / fps);
    struct itimerspec pace = {{interval / SECOND, interval % SECOND},
                              {interval / SECOND, interval % SECOND}};
    timerfd_settime(timer, 0, &pace, NULL);

    for (unsigned number = 1;;) {
        struct epoll_event event; /* One at a time: a viewer that left is in no later event. */
        if (epoll_wait(epoll, &event, 1, -1) < 1)
            continue;
        void *who = event.data.ptr;
        if (who == &input) {
            return 0;
        } else if (who == &listener) {
            take(listener);
        } else if (who == &timer) {
            uint64_t ticks;
            if (read(timer, &ticks, sizeof ticks) < 0)
                continue;
            struct iovec image = picture[number % (unsigned)pictures];
            char stamp[STAMP_END - NUMBER_AT + 1];
            snprintf(stamp, sizeof stamp, "%010u %020lld", number, (long long)now_ns());
            memcpy((char *)image.iov_base + NUMBER_AT, stamp, sizeof stamp - 1);
            number++;
            for (struct viewer *viewer = viewers, *next; viewer; viewer = next) {
                next = viewer->next;
                if (!viewer->asked || viewer->sent)
                    continue;
                viewer->part = part_of(viewer->head, image.iov_base, image.iov_len);
                push(viewer);
            }
        } else if (event.events & EPOLLOUT) {
            push(who);
        } else {
            hear(who);
        }
    }
}
