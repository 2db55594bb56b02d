/*
 * download - see download.h.
 */
#include "deploy/sandbox-host/agent/download.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "common/base/alloc.h"
#include "deploy/sandbox-host/agent/access.h"
#include "deploy/sandbox-host/agent/answers.h"

#define COPY_BYTES  65536
#define SNIFF_BYTES 512

/* ---- pure parts ---- */

int download_encoding(const char *header)
{
    double gzip = -1, identity = -1, any = -1;

    if (header == NULL || header[0] == '\0') {
        return 0;
    }
    for (const char *at = header; *at != '\0';) {
        at += strspn(at, " \t,");
        const size_t name = strcspn(at, ",; \t");
        const char *const start = at;
        double q = 1;
        at += name;
        const size_t rest = strcspn(at, ",");
        for (const char *p = at; p + 1 < at + rest; p++) {
            if ((p[0] == 'q' || p[0] == 'Q') && p[1] == '=') {
                q = strtod(p + 2, NULL);
            }
        }
        at += rest;
        if (name == 4 && strncasecmp(start, "gzip", 4) == 0) {
            gzip = q;
        } else if (name == 8 && strncasecmp(start, "identity", 8) == 0) {
            identity = q;
        } else if (name == 1 && *start == '*') {
            any = q;
        }
    }
    if (gzip > 0 && gzip >= identity) {
        return 1;
    }
    if (identity != 0 && !(identity < 0 && any == 0)) {
        return 0;
    }
    return gzip > 0 || (gzip < 0 && any > 0) ? 1 : -1;
}

static const struct {
    const char *extension, *type;
} types[] = {
    {"avif", "image/avif"},
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"htm", "text/html; charset=utf-8"},
    {"html", "text/html; charset=utf-8"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"txt", "text/plain; charset=utf-8"},
    {"wasm", "application/wasm"},
    {"webp", "image/webp"},
    {"xml", "text/xml; charset=utf-8"},
    {"zip", "application/zip"},
};

static const struct {
    const char *bytes;
    size_t length;
    const char *type;
} signatures[] = {
    {"\x89PNG\r\n\x1a\n", 8, "image/png"},
    {"\xff\xd8\xff", 3, "image/jpeg"},
    {"GIF8", 4, "image/gif"},
    {"%PDF-", 5, "application/pdf"},
    {"PK\x03\x04", 4, "application/zip"},
    {"\x1f\x8b\x08", 3, "application/x-gzip"},
    {"\0asm", 4, "application/wasm"},
    {"<!DOCTYPE HTML", 14, "text/html; charset=utf-8"},
    {"<!doctype html", 14, "text/html; charset=utf-8"},
    {"<html", 5, "text/html; charset=utf-8"},
    {"<?xml", 5, "text/xml; charset=utf-8"},
};

const char *download_content_type(const char *path, const unsigned char *data, size_t length)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');

    if (dot != NULL && (slash == NULL || dot > slash)) {
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
            if (strcasecmp(dot + 1, types[i].extension) == 0) {
                return types[i].type;
            }
        }
    }
    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        if (length >= signatures[i].length &&
            memcmp(data, signatures[i].bytes, signatures[i].length) == 0) {
            return signatures[i].type;
        }
    }
    for (size_t i = 0; i < length; i++) {
        /* the control bytes that text does not have (WHATWG MIME sniffing, 3) */
        if (data[i] <= 0x08 || data[i] == 0x0b || (data[i] >= 0x0e && data[i] <= 0x1a) ||
            (data[i] >= 0x1c && data[i] <= 0x1f)) {
            return "application/octet-stream";
        }
    }
    return "text/plain; charset=utf-8";
}

void download_format_date(time_t when, char out[HTTP_DATE_BYTES])
{
    struct tm parts;

    out[0] = '\0';
    if (gmtime_r(&when, &parts) != NULL) {
        strftime(out, HTTP_DATE_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    }
}

int download_parse_date(const char *text, time_t *ret)
{
    struct tm parts = {.tm_sec = 0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &parts);

    if (end == NULL || *end != '\0') {
        return -1;
    }
    *ret = timegm(&parts);
    return 0;
}

/* ---- the answer ---- */

struct download {
    struct http_exchange *exchange;
    const char *path;
    int fd;
    struct stat info;
    unsigned char *buffer; /* COPY_BYTES */
};

static bool not_modified(const struct download *download)
{
    const char *none = http_header(download->exchange, "If-None-Match");
    const char *since = http_header(download->exchange, "If-Modified-Since");
    time_t when;

    if (none != NULL) {
        return strcmp(none, "*") == 0;
    }
    return since != NULL && download_parse_date(since, &when) == 0 &&
           download->info.st_mtim.tv_sec <= when;
}

static bool range_applies(const struct download *download)
{
    const char *text = http_header(download->exchange, "If-Range");
    time_t when;

    return text == NULL ||
           (download_parse_date(text, &when) == 0 && download->info.st_mtim.tv_sec == when);
}

/* Sends `length` bytes (-1: to the end of the file) from the present position, after `ready` bytes
 * that are in the buffer already. */
static void send_plain(struct download *download, int64_t length, size_t ready)
{
    while (length != 0) {
        ssize_t n = (ssize_t)ready;
        if (n == 0) {
            const size_t want = length < 0 || length > COPY_BYTES ? COPY_BYTES : (size_t)length;
            n = read(download->fd, download->buffer, want);
            if (n < 0 && errno == EINTR) {
                continue;
            }
        }
        ready = 0;
        if (n <= 0) {
            break; /* shorter than promised: http_stream_end closes the connection */
        }
        if (length > 0 && n > length) {
            n = (ssize_t)length;
        }
        if (http_stream_write(download->exchange, download->buffer, (size_t)n) != 0) {
            return;
        }
        length -= length > 0 ? n : 0;
    }
    (void)http_stream_end(download->exchange);
}

static void send_gzip(struct download *download, size_t ready)
{
    z_stream zip = {.next_in = NULL};
    unsigned char *packed = xmalloc(COPY_BYTES);
    ssize_t n = (ssize_t)ready;
    int flush = Z_NO_FLUSH;

    /* the fastest level: the other end of this connection is usually the same machine */
    if (deflateInit2(&zip, Z_BEST_SPEED, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        free(packed);
        return;
    }
    for (;;) {
        if (n <= 0) {
            n = read(download->fd, download->buffer, COPY_BYTES);
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            goto out; /* no end: the client sees a truncated stream */
        }
        flush = n == 0 ? Z_FINISH : Z_NO_FLUSH;
        zip.next_in = download->buffer;
        zip.avail_in = (uInt)n;
        do {
            zip.next_out = packed;
            zip.avail_out = COPY_BYTES;
            (void)deflate(&zip, flush);
            if (COPY_BYTES - zip.avail_out > 0 &&
                http_stream_write(download->exchange, packed, COPY_BYTES - zip.avail_out) != 0) {
                goto out;
            }
        } while (zip.avail_out == 0);
        if (flush == Z_FINISH) {
            break;
        }
        n = 0;
    }
    (void)http_stream_end(download->exchange);
out:
    deflateEnd(&zip);
    free(packed);
}

static void serve(struct download *download)
{
    struct http_exchange *exchange = download->exchange;
    char headers[256], date[HTTP_DATE_BYTES];
    int64_t start = 0, length = download->info.st_size;
    const char *range = http_header(exchange, "Range");
    const bool plain_only = range != NULL || http_header(exchange, "If-Modified-Since") != NULL ||
                            http_header(exchange, "If-None-Match") != NULL ||
                            http_header(exchange, "If-Range") != NULL;
    const int encoding =
        plain_only ? 0 : download_encoding(http_header(exchange, "Accept-Encoding"));

    download_format_date(download->info.st_mtim.tv_sec, date);
    if (encoding < 0) {
        answer_error(exchange, 406, "no acceptable encoding found, supported: [identity, gzip]");
        return;
    }
    if (not_modified(download)) {
        snprintf(headers, sizeof(headers), "Vary: Accept-Encoding\r\nLast-Modified: %s\r\n", date);
        http_respond(exchange, 304, NULL, headers, "", 0);
        return;
    }
    const bool regular = S_ISREG(download->info.st_mode);
    const enum range_kind kind = regular && length > 0 && range_applies(download)
                                     ? http_range_parse(range, length, &start, &length)
                                     : RANGE_NONE;
    if (kind == RANGE_BAD) {
        snprintf(headers, sizeof(headers), "Content-Range: bytes */%lld\r\n",
                 (long long)download->info.st_size);
        http_respond(exchange, 416, "text/plain; charset=utf-8", headers,
                     "invalid range: failed to overlap\n", 33);
        return;
    }
    ssize_t head;
    do {
        head = read(download->fd, download->buffer, start > 0 ? SNIFF_BYTES : COPY_BYTES);
    } while (head < 0 && errno == EINTR);
    if (head < 0) {
        answer_error(exchange, 500, "error reading file");
        return;
    }
    const char *type = download_content_type(download->path, download->buffer,
                                             head < SNIFF_BYTES ? (size_t)head : SNIFF_BYTES);
    if (start > 0) {
        if (lseek(download->fd, start, SEEK_SET) != start) {
            answer_error(exchange, 500, "seeker can't seek");
            return;
        }
        head = 0;
    }
    /* /proc and /sys say 0 and have content all the same; so do devices and pipes */
    if (length == 0 && head > 0) {
        length = -1;
    }
    if (encoding == 1) {
        snprintf(headers, sizeof(headers), "Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\n");
        if (http_stream_begin(exchange, 200, type, headers, -1) == 0) {
            send_gzip(download, (size_t)head);
        }
        return;
    }
    const int at = snprintf(headers, sizeof(headers),
                            "Vary: Accept-Encoding\r\nAccept-Ranges: bytes\r\nLast-Modified: "
                            "%s\r\n",
                            date);
    if (kind == RANGE_ONE) {
        snprintf(headers + at, sizeof(headers) - (size_t)at,
                 "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)start,
                 (long long)(start + length - 1), (long long)download->info.st_size);
    }
    if (http_stream_begin(exchange, kind == RANGE_ONE ? 206 : 200, type, headers, length) == 0) {
        send_plain(download, length, (size_t)head);
    }
}

static int open_file(struct download *download, int *ret_status, struct error *err)
{
    if (stat(download->path, &download->info) != 0) {
        const int failure = errno;
        if (failure == ENOENT) { /* ENOTDIR is a 500 of envd */
            *ret_status = 404;
            return error_set(err, ERR_FILE_NOT_FOUND, "path '%.200s' does not exist",
                             download->path);
        }
        *ret_status = 500;
        return error_set_errno(err, ERR_INTERNAL, failure, "error checking if path exists '%.200s'",
                               download->path);
    }
    if (S_ISDIR(download->info.st_mode)) {
        *ret_status = 400;
        return error_set(err, ERR_IS_DIRECTORY, "path '%.200s' is a directory", download->path);
    }
    /* a pipe or terminal would hold this thread for as long as its other side likes */
    *ret_status = 500;
    if (!S_ISREG(download->info.st_mode)) {
        return error_set(err, ERR_INVALID, "error opening file '%.200s': not a regular file",
                         download->path);
    }
    download->fd = open(download->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (download->fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "error opening file '%.200s'",
                               download->path);
    }
    return 0;
}

void download_serve(struct http_exchange *exchange, const struct agent_config *config)
{
    struct access_request *request = xmalloc(sizeof(*request));
    struct download download = {.exchange = exchange, .fd = -1};
    struct error err = ERROR_INIT;
    char *path = xmalloc(PATH_MAX);
    int status = 500;

    download.path = path;
    if (access_request_init(request, exchange, config, "read", &status, &err) != 0) {
        answer_error(exchange, status, err.message);
    } else if (user_resolve_path(config, &request->user, request->path, path, &err) != 0) {
        error_prefix(&err, "error expanding and resolving path");
        answer_error(exchange, 400, err.message);
    } else if (open_file(&download, &status, &err) != 0) {
        answer_error(exchange, status, err.message);
    } else {
        download.buffer = xmalloc(COPY_BYTES);
        serve(&download);
    }
    if (download.fd >= 0) {
        close(download.fd);
    }
    free(download.buffer);
    free(path);
    free(request);
}
