/*
 * spool - the output of a command, kept in files of bounded size.
 *
 * A record is 8 bytes (stream, 0, 0, 0, length as 32 bits in the machine's order) and its data. A
 * file o.N begins with the Nth byte of the command's whole output (both streams, in order of
 * arrival). The first files and the last ones are kept; what lies between is removed, which shows
 * as a gap between two names. Owns: these files. Threads: one writer; readers are other processes.
 * Failure: what cannot be stored (a full disk) becomes a gap, the command goes on.
 */
#ifndef RUNNER_SPOOL_H
#define RUNNER_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deploy/command-runner/place.h"

enum { SPOOL_FILES = 16, SPOOL_HEADER_BYTES = 8, SPOOL_FILE_MIN_BYTES = 4096 };

struct spool {
    const char *id;
    int fd; /* of the newest file; -1 = none yet */
    int64_t file_bytes, file_max;
    int64_t total;                   /* bytes of output so far */
    int64_t starts[SPOOL_FILES / 2]; /* a ring of the newest files */
    int64_t count;                   /* files ever begun */
};
/* bound: most bytes of all files together. */
void spool_init(struct spool *spool, const char *id, int64_t bound);
void spool_add(struct spool *spool, int stream, const char *data, size_t bytes);
/* No more output: frees what place_make() reserved and the output did not need. */
void spool_end_writing(struct spool *spool);

struct spool_reader {
    const char *id;
    int64_t at;      /* offset of the next byte wanted */
    int fd;          /* -1 = none is open */
    int64_t start;   /* name of the open file */
    int64_t read_at; /* in the file: of the next record */
    int64_t record;  /* offset in the output of that record */
};
struct spool_piece {
    int stream;
    int64_t gap; /* > 0: so many bytes before `at` are not there; no data */
    size_t bytes;
};
void spool_reader_init(struct spool_reader *reader, const char *id, int64_t at);
void spool_reader_done(struct spool_reader *reader);
/* The next piece, at most `room` bytes of it in `out`. 1 = there is one, 0 = no more for now. */
int spool_read(struct spool_reader *reader, char *out, size_t room, struct spool_piece *ret);
/* The offset behind the newest byte. */
int64_t spool_end(const char *id);

#endif
