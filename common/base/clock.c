/* clock - see clock.h. */
#include "common/base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Atomic int64_t test_offset_ms;

static int64_t read_us(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_BOOTTIME) +
           atomic_load_explicit(&test_offset_ms, memory_order_relaxed) * 1000;
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

#ifdef CRASHPOINTS
static int64_t wall_shift_ms;
static pthread_once_t wall_shift_once = PTHREAD_ONCE_INIT;

static void read_wall_shift(void)
{
    const char *setting = getenv("CLOCK_SHIFT_MS");

    wall_shift_ms = setting == NULL ? 0 : strtoll(setting, NULL, 10);
}
#endif

/* Offset that a test adds to the wall clock. */
static int64_t test_shift_ms(void)
{
    int64_t ms = atomic_load_explicit(&test_offset_ms, memory_order_relaxed);

#ifdef CRASHPOINTS
    pthread_once(&wall_shift_once, read_wall_shift);
    ms += wall_shift_ms;
#endif
    return ms;
}

int64_t clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000 + test_shift_ms();
}

void clock_sleep_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};

    while (ms > 0 && nanosleep(&left, &left) < 0 && errno == EINTR) {}
}

void clock_cond_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct timespec clock_cond_until(int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    return until;
}

const char *clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES])
{
    int64_t ms = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    if (ms < 0) {
        ms += 1000;
        seconds -= 1;
    }
    gmtime_r(&seconds, &tm);
    snprintf(out, CLOCK_RFC3339_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
             (unsigned)(tm.tm_year + 1900) % 10000U, (unsigned)(tm.tm_mon + 1) % 100U,
             (unsigned)tm.tm_mday % 100U, (unsigned)tm.tm_hour % 100U, (unsigned)tm.tm_min % 100U,
             (unsigned)tm.tm_sec % 100U, (unsigned)ms % 1000U);
    return out;
}

/* Exactly `count` digits at *p; moves *p behind them. */
static bool read_digits(const char **p, int count, int *ret)
{
    *ret = 0;
    for (int i = 0; i < count; i++, (*p)++) {
        if (!isdigit((unsigned char)**p)) {
            return false;
        }
        *ret = *ret * 10 + (**p - '0');
    }
    return true;
}

static bool read_char(const char **p, const char *allowed)
{
    if (**p == '\0' || strchr(allowed, **p) == NULL) {
        return false;
    }
    (*p)++;
    return true;
}

int clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms)
{
    struct tm tm = {0};
    int year, month, hour = 0, minute = 0, sign = 0;
    int64_t ms = 0, scale = 100, seconds;

    if (!read_digits(&text, 4, &year) || !read_char(&text, "-") || !read_digits(&text, 2, &month) ||
        !read_char(&text, "-") || !read_digits(&text, 2, &tm.tm_mday) || !read_char(&text, "Tt ") ||
        !read_digits(&text, 2, &tm.tm_hour) || !read_char(&text, ":") ||
        !read_digits(&text, 2, &tm.tm_min) || !read_char(&text, ":") ||
        !read_digits(&text, 2, &tm.tm_sec)) {
        return -1;
    }
    if (month < 1 || month > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 60) {
        return -1;
    }
    if (*text == '.') {
        text++;
        if (!isdigit((unsigned char)*text)) {
            return -1;
        }
        for (; isdigit((unsigned char)*text); text++, scale /= 10) {
            ms += (*text - '0') * scale;
        }
    }
    if (*text == 'Z' || *text == 'z') {
        text++;
    } else if (*text == '+' || *text == '-') {
        sign = *text++ == '+' ? 1 : -1;
        if (!read_digits(&text, 2, &hour) || !read_char(&text, ":") ||
            !read_digits(&text, 2, &minute) || hour > 23 || minute > 59) {
            return -1;
        }
    } else {
        return -1;
    }
    if (*text != '\0') {
        return -1;
    }
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    seconds = (int64_t)timegm(&tm) - sign * (hour * 3600 + minute * 60);
    *ret_wall_ms = seconds * 1000 + ms;
    return 0;
}

void clock_test_advance_ms(int64_t ms)
{
    atomic_fetch_add(&test_offset_ms, ms);
}
