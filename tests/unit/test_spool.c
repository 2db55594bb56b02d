/* spool: the output of a command in files of bounded size (deploy/command-runner). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/id.h"
#include "deploy/command-runner/spool.h"

/* The folder of a command that nobody else has. */
static int make_place(void **state)
{
    static char id[UUID_BYTES];
    int lock;

    id_uuid(id);
    lock = place_make(id);
    assert_true(lock >= 0);
    close(lock);
    *state = id;
    return 0;
}

static int remove_place(void **state)
{
    place_remove(*state);
    assert_false(place_exists(*state));
    return 0;
}

/* The byte of all output at an offset. */
static char byte_at(int64_t offset)
{
    return (char)(offset * 7 + offset / 251);
}

/* Writes `bytes` more in pieces of many sizes. */
static void write_more(struct spool *spool, int64_t bytes)
{
    static const size_t sizes[] = {1, 3000, 17, 4096, 65, 1000};
    const int64_t end = spool->total + bytes;

    for (size_t i = 0; spool->total < end; i++) {
        char data[4096];
        const int64_t left = end - spool->total;
        const size_t size = left < (int64_t)sizes[i % 6] ? (size_t)left : sizes[i % 6];

        for (size_t at = 0; at < size; at++) {
            data[at] = byte_at(spool->total + (int64_t)at);
        }
        spool_add(spool, i % 5 == 4 ? 2 : 1, data, size);
    }
}

/* Reads from `at` to the end; checks each byte. *ret_gap: bytes that are not there. */
static int64_t read_all(const char *id, int64_t at, size_t room, int64_t *ret_gap)
{
    struct spool_reader reader;
    struct spool_piece piece;
    char data[8192];

    *ret_gap = 0;
    spool_reader_init(&reader, id, at);
    while (spool_read(&reader, data, room, &piece) == 1) {
        *ret_gap += piece.gap;
        for (size_t i = 0; i < piece.bytes; i++) {
            assert_int_equal(data[i], byte_at(reader.at - (int64_t)piece.bytes + (int64_t)i));
        }
        assert_true(piece.gap > 0 || piece.stream == 1 || piece.stream == 2);
    }
    spool_reader_done(&reader);
    return reader.at;
}

static int64_t stored_bytes(const char *id)
{
    char path[PLACE_BYTES];
    struct dirent *entry;
    int64_t bytes = 0;
    DIR *folder;

    place_path(path, id, "");
    folder = opendir(path);
    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        struct stat info;

        if (strncmp(entry->d_name, "o.", 2) == 0) {
            assert_int_equal(fstatat(dirfd(folder), entry->d_name, &info, 0), 0);
            bytes += info.st_size;
        }
    }
    closedir(folder);
    return bytes;
}

static void test_what_fits_is_read_from_every_offset(void **state)
{
    enum { BOUND = 16 * 65536, BYTES = 200000 };
    struct spool spool;
    int64_t gap;

    spool_init(&spool, *state, BOUND);
    assert_int_equal(read_all(*state, 0, 100, &gap), 0); /* nothing yet */
    write_more(&spool, BYTES);
    for (int64_t at = 0; at <= BYTES; at += at < 50 || at > BYTES - 50 ? 1 : 9973) {
        assert_int_equal(read_all(*state, at, 8192, &gap), BYTES);
        assert_int_equal(gap, 0);
    }
    assert_int_equal(read_all(*state, 0, 1, &gap), BYTES); /* byte by byte */
    spool_end_writing(&spool);
    assert_int_equal(read_all(*state, 0, 8192, &gap), BYTES);
    assert_int_equal(spool_end(*state), BYTES);
}

static void test_of_more_than_the_bound_head_and_tail_are_kept(void **state)
{
    enum { BOUND = 16 * 8192, BYTES = 2000000 };
    struct spool spool;
    int64_t gap;

    spool_init(&spool, *state, BOUND);
    write_more(&spool, BYTES);
    spool_end_writing(&spool);
    assert_true(stored_bytes(*state) <= BOUND);
    assert_int_equal(read_all(*state, 0, 8192, &gap), BYTES);
    assert_true(gap > 0 && BYTES - gap > BOUND / 2 && BYTES - gap <= BOUND);
    assert_int_equal(read_all(*state, BOUND / 4, 8192, &gap), BYTES); /* in the head */
    assert_int_equal(read_all(*state, BYTES / 2, 8192, &gap), BYTES); /* in the gap */
    assert_true(gap > 0);
    assert_int_equal(read_all(*state, BYTES - 1000, 8192, &gap), BYTES);
    assert_int_equal(gap, 0);
    assert_int_equal(spool_end(*state), BYTES);
}

static void test_a_reader_goes_on_while_more_is_written(void **state)
{
    enum { BOUND = 16 * 8192, STEP = 3000, STEPS = 40 };
    struct spool_reader reader;
    struct spool_piece piece;
    struct spool spool;
    char data[512];

    spool_init(&spool, *state, BOUND);
    spool_reader_init(&reader, *state, 0);
    for (int step = 0; step < STEPS; step++) { /* less than what is removed at */
        write_more(&spool, STEP);
        while (spool_read(&reader, data, sizeof(data), &piece) == 1) {
            assert_int_equal(piece.gap, 0);
            assert_int_equal(data[0], byte_at(reader.at - (int64_t)piece.bytes));
        }
        assert_int_equal(reader.at, spool.total);
    }
    write_more(&spool, 10 * BOUND); /* and now what it reads is removed under it */
    while (spool_read(&reader, data, sizeof(data), &piece) == 1) {}
    assert_int_equal(reader.at, spool.total);
    spool_reader_done(&reader);
    spool_end_writing(&spool);
}

static void test_a_record_that_is_not_whole_is_not_read(void **state)
{
    char path[PLACE_BYTES];
    struct spool spool;
    int64_t gap;

    spool_init(&spool, *state, 65536);
    spool_add(&spool, 1, "", 0);
    assert_int_equal(spool_end(*state), 0);
    write_more(&spool, 1);
    write_more(&spool, 100);
    spool_end_writing(&spool);
    place_path(path, *state, "o.0");
    assert_int_equal(truncate(path, SPOOL_HEADER_BYTES + 1 + SPOOL_HEADER_BYTES), 0);
    assert_int_equal(read_all(*state, 0, 8192, &gap), 1);
    assert_int_equal(truncate(path, SPOOL_HEADER_BYTES + 1 + 3), 0); /* in its header */
    assert_int_equal(read_all(*state, 0, 8192, &gap), 1);
    assert_int_equal(spool_end(*state), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_fits_is_read_from_every_offset, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(test_of_more_than_the_bound_head_and_tail_are_kept,
                                        make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_a_reader_goes_on_while_more_is_written, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(test_a_record_that_is_not_whole_is_not_read, make_place,
                                        remove_place),
    };

    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
