/* The least a relay can do: the yardstick of the benchmark.

       floor PORT CAMERA_PORT

   One thread reads one HTTP camera whose parts have a Content-Length, and sends each client one
   writev per frame, in the wire form and with the socket options of mjrelay. A client still busy
   with a frame lets newer ones pass, and gets the newest when it is free. It understands no other
   camera, notices no error, and never reconnects. */
#include "bench.h"

/* As mjrelay: of unsent bytes the kernel keeps no more than this, else slow clients see old
   frames. */
#define NOTSENT_LOWAT (16 * 1024)
#define READ_SIZE (256 * 1024)

/* A frame is kept while it is the newest, or a client is still being sent it. */
struct frame {
    int users;
    char head[HEAD_MAX];
    struct part part;
    char image[];
};

struct client {
    int sock;
    bool asked;
    char tail[4];
    struct frame *sending; /* Not yet taken entirely. */
    size_t sent;
    struct frame *last; /* To be compared only. */
    struct client *before, *next;
};

static int epoll;
static struct frame *newest;
static struct client *clients;

static void release(struct frame *frame) {
    if (frame && !--frame->users)
        free(frame);
}

/* Clients */

static void leave(struct client *client) {
    *(client->before ? &client->before->next : &clients) = client->next;
    if (client->next)
        client->next->before = client->before;
    release(client->sending);
    close(client->sock);
    free(client);
}

/* Send what the kernel takes; false if the client is gone. */
static bool push(struct client *client, struct frame *frame) {
    ssize_t taken = send_part(client->sock, &frame->part, client->sent);
    if (taken < 0) {
        leave(client);
        return false;
    }
    client->last = frame;
    client->sent += (size_t)taken;
    if (client->sent == frame->part.size) {
        client->sent = 0;
        if (client->sending) {
            watch(epoll, EPOLL_CTL_MOD, client->sock, EPOLLIN, client);
            release(client->sending);
            client->sending = NULL;
        }
    } else if (!client->sending) {
        watch(epoll, EPOLL_CTL_MOD, client->sock, EPOLLIN | EPOLLOUT, client);
        client->sending = frame;
        frame->users++;
    }
    return true;
}

static void proceed(struct client *client) {
    if (push(client, client->sending) && !client->sending && client->last != newest)
        push(client, newest);
}

static void hear(struct client *client) {
    char data[4096];
    ssize_t size = recv(client->sock, data, sizeof data, 0);
    if (size <= 0) {
        leave(client);
        return;
    }
    if (client->asked)
        return;
    for (ssize_t i = 0; i < size && !client->asked; i++) {
        memmove(client->tail, client->tail + 1, 3);
        client->tail[3] = data[i];
        client->asked = !memcmp(client->tail, "\r\n\r\n", 4);
    }
    if (!client->asked)
        return;
    if (send(client->sock, ANSWER, sizeof ANSWER - 1, 0) < 0)
        leave(client);
    else if (newest)
        push(client, newest);
}

static void take(int listener) {
    int sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (sock < 0)
        return;
    struct client *client = need(calloc(1, sizeof *client));
    client->sock = sock;
    client->next = clients;
    if (clients)
        clients->before = client;
    clients = client;
    watch(epoll, EPOLL_CTL_ADD, sock, EPOLLIN, client);
}

/* The camera */

static char *input;
static size_t held, room;

static void show(const char *image, size_t length) {
    struct frame *frame = need(malloc(sizeof *frame + length));
    frame->users = 1;
    memcpy(frame->image, image, length);
    frame->part = part_of(frame->head, frame->image, length);
    release(newest);
    newest = frame;
    for (struct client *client = clients, *next; client; client = next) {
        next = client->next;
        if (client->asked && !client->sending)
            push(client, frame);
    }
}

/* Read, and show the frame if it is whole. */
static void see(int camera) {
    if (room - held < READ_SIZE)
        input = need(realloc(input, room = held + READ_SIZE + 1));
    ssize_t size = recv(camera, input + held, room - held - 1, 0);
    if (size <= 0)
        die("the camera");
    held += (size_t)size;
    input[held] = 0;
    char *length, *blank;
    while ((length = memmem(input, held < HEAD_MAX ? held : HEAD_MAX, "Content-Length: ", 16)) &&
           (blank = strstr(length, "\r\n\r\n"))) {
        size_t bytes = (size_t)atol(length + 16), end = (size_t)(blank + 4 - input) + bytes;
        if (held < end)
            return;
        show(blank + 4, bytes);
        held -= end;
        memmove(input, input + end, held + 1);
    }
}

static int dial(const char *port) {
    struct sockaddr_in address = loopback(port);
    int camera = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(camera, (struct sockaddr *)&address, sizeof address) ||
        send(camera, "GET / HTTP/1.0\r\n\r\n", 18, 0) != 18)
        die("the camera");
    return camera;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fputs("floor PORT CAMERA_PORT\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    int camera = dial(arguments[2]), lowat = NOTSENT_LOWAT;
    int listener = listen_on(arguments[1]);
    setsockopt(listener, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, &listener);
    watch(epoll, EPOLL_CTL_ADD, camera, EPOLLIN, &camera);
    for (;;) {
        struct epoll_event event; /* One at a time: a client that left is in no later event. */
        if (epoll_wait(epoll, &event, 1, -1) < 1)
            continue;
        void *who = event.data.ptr;
        if (who == &listener)
            take(listener);
        else if (who == &camera)
            see(camera);
        else if (event.events & EPOLLOUT)
            proceed(who);
        else
            hear(who);
    }
}
