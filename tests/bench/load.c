/* Many clients of a relay in one process, each looking at every byte that makes a frame a frame.

       load --clients N --seconds S [--throttle BYTES] [--storm M] PORT/PATH...

   N clients connect, in turn to each address. When all have had a frame, and SETTLE has passed, it
   prints "begin", counts for S seconds, prints "end", and waits a little for the frames still on
   their way. Then it prints what it saw as JSON. Times are of CLOCK_MONOTONIC, as in the stamps.

   --throttle: each client reads so many bytes a second.
   --storm: M further clients connect within a second in the middle. They are no part of the
   figures, but what they are sent is looked at as well. */
#include "bench.h"

#include <getopt.h>

#define READ_SIZE (256 * 1024)
#define TEXT_MAX 2048
#define SETTLE (SECOND / 2)
#define CONNECT_TIMEOUT (30 * SECOND)
/* After the end: at most so long for late frames; at least so long for whoever reads the relay's
   memory while we are connected. */
#define GRACE SECOND
#define LINGER (SECOND / 5)
/* A throttled client reads in small steps, and does not make up for what it could not read. */
#define THROTTLE_STEP (SECOND / 100)
#define STORM_SECONDS 1

enum state { CONNECTING, ANSWERING, HEAD, IMAGE, GONE };

struct client {
    int sock;
    bool counts; /* One of the N, not of the storm. */
    enum state state;
    const char *path;
    char boundary[128]; /* The line, dashes and CRLF included. */
    char text[TEXT_MAX + 1];
    size_t size; /* of the text so far */
    size_t length, got;
    char start[STAMP_END];
    char last[2];
    long number, parts;
    int64_t arrived; /* when its latest new frame did */
    int64_t tokens, refilled;
};

static int epoll;
static struct client *clients;
static int ready;                                  /* of the N, have had a frame */
static long corrupt, lost, repeated, stormed;      /* over the whole run */
static bool counting;                              /* between begin and end */
static long first_number = -1, last_number = -1;   /* of the frames that count */
static long newest;
static long frames, delivered;                     /* by time; by number */
static int64_t longest_gap;
static uint32_t *ages;                             /* of those delivered, in us */
static size_t age_room;
static int64_t throttle;

static void give_up(struct client *client) {
    client->state = GONE;
    close(client->sock);
}

static void broken(struct client *client, const char *why) {
    if (!corrupt++)
        fprintf(stderr, "corrupt: %s after frame %ld\n", why, client->number);
    give_up(client);
}

static void note(struct client *client, long number, int64_t sent_at, int64_t now) {
    if (number == client->number) {
        repeated++;
        return;
    }
    bool is_first = !client->number;
    client->number = number;
    if (is_first && client->counts)
        ready++;
    if (is_first && !client->counts)
        stormed++;
    int64_t gap = is_first ? 0 : now - client->arrived;
    client->arrived = now;
    if (number > newest)
        newest = number;
    if (!client->counts || first_number < 0)
        return;
    if (counting) {
        frames++;
        if (gap > longest_gap)
            longest_gap = gap;
    }
    if (number <= first_number || (last_number >= 0 && number > last_number))
        return;
    if ((size_t)delivered == age_room)
        ages = need(realloc(ages, (age_room = 2 * age_room + 65536) * sizeof *ages));
    ages[delivered++] = (uint32_t)((now - sent_at) / 1000);
}

/* The blank line that ends a text has come. */
static void read_text(struct client *client) {
    char *text = client->text;
    client->size = 0;
    if (client->state == ANSWERING) {
        char *boundary = strcasestr(text, "boundary=");
        if (strncmp(text, "HTTP/1.", 7) || strncmp(text + 8, " 200", 4) || !boundary)
            die("the answer is no stream");
        boundary += strlen("boundary=");
        boundary += strspn(boundary, "\"-");
        snprintf(client->boundary, sizeof client->boundary, "--%.*s\r\n",
                 (int)strcspn(boundary, "\";\r\n "), boundary);
        client->state = HEAD;
        return;
    }
    if (!strncmp(text, "\r\n", 2))
        text += 2;
    else if (client->parts) {
        broken(client, "no line end behind the image");
        return;
    }
    char *length = strcasestr(text, "\nContent-Length: ");
    if (strncmp(text, client->boundary, strlen(client->boundary)))
        broken(client, "no boundary where one must be");
    else if (!length || (client->length = (size_t)atol(length + 17)) < STAMP_END)
        broken(client, "no Content-Length");
    else {
        client->got = 0;
        client->parts++;
        client->state = IMAGE;
    }
}

static void read_image(struct client *client, int64_t now) {
    char *start = client->start;
    client->state = HEAD;
    if (memcmp(start, STAMP_START, sizeof STAMP_START - 1))
        broken(client, "no SOI with our stamp");
    else if (memcmp(client->last, "\xff\xd9", 2))
        broken(client, "no EOI where Content-Length says");
    else if (atol(start + NUMBER_AT) < client->number)
        broken(client, "an older frame");
    else
        note(client, atol(start + NUMBER_AT), atoll(start + TIME_AT), now);
}

static void take(struct client *client, const char *data, size_t size, int64_t now) {
    while (size && client->state != GONE) {
        size_t used;
        if (client->state == IMAGE) {
            size_t rest = client->length - client->got;
            used = size < rest ? size : rest;
            for (size_t i = 0; i < used && client->got + i < STAMP_END; i++)
                client->start[client->got + i] = data[i];
            for (size_t i = used > 2 ? used - 2 : 0; i < used; i++) {
                client->last[0] = client->last[1];
                client->last[1] = data[i];
            }
            client->got += used;
            if (client->got == client->length)
                read_image(client, now);
        } else {
            size_t before = client->size, room = TEXT_MAX - before;
            used = size < room ? size : room;
            memcpy(client->text + before, data, used);
            size_t from = before > 3 ? before - 3 : 0;
            char *blank = memmem(client->text + from, before + used - from, "\r\n\r\n", 4);
            if (blank) {
                blank[4] = 0;
                used = (size_t)(blank + 4 - client->text) - before;
                read_text(client);
            } else {
                client->size += used;
                if (client->size == TEXT_MAX)
                    broken(client, "no end of a head");
            }
        }
        data += used;
        size -= used;
    }
}

static void receive(struct client *client, size_t at_most) {
    static char data[READ_SIZE];
    ssize_t size = recv(client->sock, data, at_most < READ_SIZE ? at_most : READ_SIZE, 0);
    if (size > 0) {
        client->tokens -= size;
        take(client, data, (size_t)size, now_ns());
    } else if (size == 0 || errno != EAGAIN) {
        lost++;
        give_up(client);
    }
}

static void receive_slowly(struct client *client, int64_t now) {
    int64_t most = throttle * 5 * THROTTLE_STEP / SECOND;
    client->tokens += throttle * (now - client->refilled) / SECOND;
    client->refilled = now;
    if (client->tokens > most)
        client->tokens = most;
    if (client->tokens > 0)
        receive(client, (size_t)client->tokens);
}

static void dial(struct client *client, const char *target, bool counts) {
    struct sockaddr_in address = loopback(target);
    client->path = strchr(target, '/');
    client->counts = counts;
    client->state = CONNECTING;
    client->sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (!client->path || client->sock < 0)
        die(target);
    if (connect(client->sock, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect");
    watch(epoll, EPOLL_CTL_ADD, client->sock, EPOLLOUT, client);
}

static void ask(struct client *client) {
    char request[1024];
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n",
                        client->path);
    if (send(client->sock, request, (size_t)size, MSG_NOSIGNAL) != size) {
        lost++;
        give_up(client);
        return;
    }
    client->state = ANSWERING;
    client->refilled = now_ns();
    watch(epoll, EPOLL_CTL_MOD, client->sock, throttle ? 0 : EPOLLIN, client);
}

static int by_size(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static double age_ms(double share) {
    return delivered ? ages[(size_t)((double)(delivered - 1) * share + 0.5)] / 1000.0 : -1;
}

static double cpu_seconds(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void say(const char *word) {
    puts(word);
    fflush(stdout);
}

static bool all_have(int count, long number) {
    for (int i = 0; i < count; i++)
        if (clients[i].state != GONE && clients[i].number < number)
            return false;
    return true;
}

int main(int count, char **arguments) {
    static const struct option known[] = {
        {"clients", required_argument, NULL, 'c'}, {"seconds", required_argument, NULL, 's'},
        {"throttle", required_argument, NULL, 't'}, {"storm", required_argument, NULL, 'm'}, {0}};
    int wanted = 1, storm = 0;
    double seconds = 3;
    for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;)
        switch (option) {
        case 'c': wanted = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 't': throttle = atoll(optarg); break;
        case 'm': storm = atoi(optarg); break;
        default: return 2;
        }
    int targets = count - optind;
    if (!targets) {
        fputs("load: where to?\n", stderr);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    epoll = epoll_create1(EPOLL_CLOEXEC);
    clients = need(calloc((size_t)(wanted + storm), sizeof *clients));
    for (int i = 0; i < wanted; i++)
        dial(&clients[i], arguments[optind + i % targets], true);

    int dialled = wanted;
    int64_t started = now_ns(), begin_at = 0, begun = 0, ended = 0;
    double cpu = 0;
    for (int64_t now = started;; now = now_ns()) {
        int wait = throttle ? (int)(THROTTLE_STEP / 1000000) : storm ? 1 : 10;
        struct epoll_event events[64];
        int happened = epoll_wait(epoll, events, 64, wait);
        for (int i = 0; i < happened; i++) {
            struct client *client = events[i].data.ptr;
            if (client->state == CONNECTING)
                ask(client);
            else if (client->state != GONE)
                receive(client, READ_SIZE);
        }
        now = now_ns();
        for (int i = 0; throttle && i < dialled; i++)
            if (clients[i].state != CONNECTING && clients[i].state != GONE)
                receive_slowly(&clients[i], now);

        if (!begin_at) {
            if (ready == wanted)
                begin_at = now + SETTLE;
            else if (lost || corrupt || now - started > CONNECT_TIMEOUT) {
                fprintf(stderr, "%d of %d clients had a frame; %ld lost, %ld corrupt\n", ready,
                        wanted, lost, corrupt);
                return 1;
            }
        } else if (!begun && now >= begin_at) {
            begun = now;
            first_number = newest;
            counting = true;
            say("begin");
            cpu = cpu_seconds();
        } else if (begun && !ended) {
            double into = (double)(now - begun) / 1e9 - (seconds - STORM_SECONDS) / 2;
            while (dialled < wanted + storm && into * storm / STORM_SECONDS > dialled - wanted) {
                dial(&clients[dialled], arguments[optind], false);
                dialled++;
            }
            if ((double)(now - begun) / 1e9 >= seconds) {
                ended = now;
                counting = false;
                last_number = newest;
                cpu = cpu_seconds() - cpu;
                say("end");
                /* Whoever had nothing for longer than any gap before has that gap now. */
                for (int i = 0; i < wanted; i++)
                    if (now - clients[i].arrived > longest_gap)
                        longest_gap = now - clients[i].arrived;
            }
        } else if (ended && (now - ended > GRACE ||
                             (now - ended > LINGER && all_have(wanted, last_number))))
            break;
    }

    long sent = last_number - first_number;
    qsort(ages, (size_t)delivered, sizeof *ages, by_size);
    printf("{\"clients\": %d, \"seconds\": %.6f, \"frames\": %ld, \"camera_frames\": %ld, "
           "\"delivered\": %.6f, \"age_p50_ms\": %.3f, \"age_p99_ms\": %.3f, "
           "\"age_max_ms\": %.3f, \"gap_ms\": %.3f, \"corrupt\": %ld, \"lost\": %ld, "
           "\"repeated\": %ld, \"stormed\": %ld, \"cpu_seconds\": %.6f}\n",
           wanted, (double)(ended - begun) / 1e9, frames, sent,
           sent ? (double)delivered / (double)sent / wanted : 0, age_ms(0.5), age_ms(0.99),
           age_ms(1), (double)longest_gap / 1e6, corrupt, lost, repeated, stormed, cpu);
    return 0;
}
