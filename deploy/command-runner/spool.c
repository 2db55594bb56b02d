/* spool - see spool.h. */
#include "deploy/command-runner/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- writing ---- */

static void file_path(char ret[PLACE_BYTES], const char *id, int64_t start)
{
    char name[32];

    snprintf(name, sizeof(name), "o.%lld", (long long)start);
    place_path(ret, id, name);
}

void spool_init(struct spool *spool, const char *id, int64_t bound)
{
    *spool = (struct spool){.id = id, .fd = -1, .file_max = bound / SPOOL_FILES};
    if (spool->file_max < SPOOL_FILE_MIN_BYTES) {
        spool->file_max = SPOOL_FILE_MIN_BYTES;
    }
}

static void begin_file(struct spool *spool)
{
    char path[PLACE_BYTES];
    int64_t *slot = &spool->starts[spool->count % (SPOOL_FILES / 2)];

    if (spool->fd >= 0) {
        close(spool->fd);
    }
    if (spool->count >= SPOOL_FILES) { /* the first half of them is the head, which stays */
        file_path(path, spool->id, *slot);
        unlink(path);
    }
    file_path(path, spool->id, spool->total);
    /* not O_TRUNC: it would give up what place_make() has reserved for the first file */
    spool->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    spool->file_bytes = 0;
    *slot = spool->total;
    spool->count++;
}

static void add_record(struct spool *spool, int stream, const char *data, size_t bytes)
{
    unsigned char header[SPOOL_HEADER_BYTES] = {(unsigned char)stream};
    uint32_t length = (uint32_t)bytes;
    struct iovec parts[] = {{header, sizeof(header)}, {(char *)(uintptr_t)data, bytes}};
    ssize_t want = (ssize_t)(sizeof(header) + bytes), wrote;

    memcpy(header + 4, &length, sizeof(length));
    wrote = spool->fd >= 0 ? writev(spool->fd, parts, 2) : -1;
    if (wrote == want) {
        spool->file_bytes += want;
    } else if (spool->fd >= 0) { /* the next record goes to a file of its own, behind the gap */
        if (ftruncate(spool->fd, spool->file_bytes) == 0) {
            (void)lseek(spool->fd, spool->file_bytes, SEEK_SET);
        }
        spool->file_bytes = spool->file_max;
    }
    spool->total += (int64_t)bytes;
}

void spool_add(struct spool *spool, int stream, const char *data, size_t bytes)
{
    while (bytes > 0) {
        int64_t room;
        size_t piece;

        if (spool->fd < 0 || spool->file_bytes + SPOOL_HEADER_BYTES >= spool->file_max) {
            begin_file(spool);
        }
        room = spool->file_max - spool->file_bytes - SPOOL_HEADER_BYTES;
        piece = (int64_t)bytes < room ? bytes : (size_t)room;
        add_record(spool, stream, data, piece);
        data += piece;
        bytes -= piece;
    }
}

void spool_end_writing(struct spool *spool)
{
    if (spool->fd < 0) {
        begin_file(spool);
    }
    if (spool->fd >= 0) {
        if (spool->file_bytes < spool->file_max) {
            (void)!ftruncate(spool->fd, spool->file_bytes); /* frees the blocks behind its end */
        }
        close(spool->fd);
    }
    spool->fd = -1;
}

/* ---- reading ---- */

void spool_reader_init(struct spool_reader *reader, const char *id, int64_t at)
{
    *reader = (struct spool_reader){.id = id, .at = at, .fd = -1, .start = -1};
}

void spool_reader_done(struct spool_reader *reader)
{
    if (reader->fd >= 0) {
        close(reader->fd);
    }
    reader->fd = -1;
}

/* The file that holds `at`: the last that begins no later, but behind `after`; else the first that
 * begins later. -1 = there is none. */
static int64_t find_file(const char *id, int64_t at, int64_t after)
{
    char path[PLACE_BYTES];
    int64_t best = -1, later = -1;
    struct dirent *entry;
    DIR *folder;

    place_path(path, id, "");
    folder = opendir(path);
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        int64_t start;

        if (strncmp(entry->d_name, "o.", 2) != 0) {
            continue;
        }
        start = strtoll(entry->d_name + 2, NULL, 10);
        if (start <= after) {
            continue;
        }
        if (start <= at && start > best) {
            best = start;
        } else if (start > at && (later < 0 || start < later)) {
            later = start;
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return best >= 0 ? best : later;
}

/* The header of the record at read_at, when the whole record is there. */
static bool read_header(struct spool_reader *reader, int *ret_stream, uint32_t *ret_length)
{
    unsigned char header[SPOOL_HEADER_BYTES];
    struct stat info;

    if (reader->fd < 0 ||
        pread(reader->fd, header, sizeof(header), reader->read_at) != sizeof(header)) {
        return false;
    }
    memcpy(ret_length, header + 4, sizeof(*ret_length));
    *ret_stream = header[0];
    return fstat(reader->fd, &info) == 0 &&
           reader->read_at + SPOOL_HEADER_BYTES + (int64_t)*ret_length <= info.st_size;
}

static bool open_next(struct spool_reader *reader)
{
    char path[PLACE_BYTES];
    int64_t start = find_file(reader->id, reader->at, reader->start);
    uint32_t length;
    int stream, fd;

    if (start < 0) {
        return false;
    }
    if (read_header(reader, &stream, &length)) {
        return true; /* came after the look for it and before the next file */
    }
    file_path(path, reader->id, start);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return false; /* removed just now: the caller looks again */
    }
    spool_reader_done(reader);
    reader->fd = fd;
    reader->start = reader->record = start;
    reader->read_at = 0;
    return true;
}

int spool_read(struct spool_reader *reader, char *out, size_t room, struct spool_piece *ret)
{
    uint32_t length;
    int64_t skip;
    ssize_t got;

    *ret = (struct spool_piece){.gap = 0};
    for (;;) {
        if (!read_header(reader, &ret->stream, &length)) {
            if (!open_next(reader)) {
                return 0;
            }
            continue;
        }
        if (reader->record > reader->at) {
            ret->gap = reader->record - reader->at;
            reader->at = reader->record;
            return 1;
        }
        if (reader->record + (int64_t)length > reader->at) {
            break;
        }
        reader->read_at += SPOOL_HEADER_BYTES + (int64_t)length;
        reader->record += length;
    }
    skip = reader->at - reader->record;
    ret->bytes = (size_t)(length - skip) < room ? (size_t)(length - skip) : room;
    got = pread(reader->fd, out, ret->bytes, reader->read_at + SPOOL_HEADER_BYTES + skip);
    if (got <= 0) {
        return 0;
    }
    ret->bytes = (size_t)got;
    reader->at += got;
    return 1;
}

int64_t spool_end(const char *id)
{
    struct spool_reader reader;
    uint32_t length;
    int stream;

    spool_reader_init(&reader, id, INT64_MAX);
    (void)open_next(&reader);
    while (read_header(&reader, &stream, &length)) {
        reader.read_at += SPOOL_HEADER_BYTES + (int64_t)length;
        reader.record += length;
    }
    spool_reader_done(&reader);
    return reader.record > 0 ? reader.record : 0;
}
