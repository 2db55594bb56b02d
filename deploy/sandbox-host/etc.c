/* etc - see etc.h. */
#include "deploy/sandbox-host/etc.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/strbuf.h"
#include "deploy/sandbox-host/files.h"

enum { ETC_FILE_MAX_BYTES = 1 << 20 };

/* of this machine's /etc */
static const char *const names[] = {
    "alternatives", "ld.so.cache",     "ld.so.conf",  "ld.so.conf.d",    "ssl",
    "localtime",    "ca-certificates", "mime.types",  "profile",         "profile.d",
    "protocols",    "services",        "bash.bashrc", "nsswitch.conf",   "debian_version",
    "os-release",   "magic",           "python3",     "python3.11",      "java-17-openjdk",
    "fonts",        "gai.conf",        "terminfo",    "inputrc",         "gitconfig",
    "timezone",     "host.conf",       "rpc",         "java-21-openjdk", "skel"};

#define USER_LINE  "user:x:1000:1000:user:/home/user:/bin/bash\n"
#define GROUP_LINE "user:x:1000:\n"

/* The lines of users or groups of the template, without what would clash with `user`. */
static void keep_lines(const char *text, struct strbuf *out)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        const char *id = memchr(text, ':', length);

        id = id != NULL ? memchr(id + 1, ':', length - (size_t)(id + 1 - text)) : NULL;
        if (id != NULL && strtol(id + 1, NULL, 10) != 1000 && strncmp(text, "user:", 5) != 0) {
            strbuf_append(out, text, length);
            strbuf_putc(out, '\n');
        }
        text += length + (text[length] == '\n');
    }
}

/* /etc/passwd or /etc/group: the template's own lines, or `fallback`, and `user`. */
static int write_accounts(const char *out, const char *file, bool own, const char *fallback,
                          const char *user_line, struct error *err)
{
    struct error missing = ERROR_INIT; /* then the fallback stands alone */
    struct strbuf before, after;
    char path[PATH_MAX];
    int status;

    snprintf(path, sizeof(path), "%s/%s", out, file);
    strbuf_init(&before, ETC_FILE_MAX_BYTES);
    strbuf_init(&after, 2 * ETC_FILE_MAX_BYTES);
    keep_lines(own && files_read(path, &before, &missing) == 0 ? before.data : fallback, &after);
    strbuf_puts(&after, user_line);
    status = files_write(path, after.data, after.length, 0644, err);
    strbuf_done(&before);
    strbuf_done(&after);
    return status;
}

static int write_line(const char *out, const char *file, const char *text, struct error *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", out, file);
    return files_write(path, text, strlen(text), 0644, err);
}

/* The login shell's PATH ends with the host's own tools first, whatever the profile sets. */
static int write_profile(const char *out, struct error *err)
{
    static const char line[] = "PATH=/.sandbox/bin:$PATH\nexport PATH\n";
    struct error missing = ERROR_INIT; /* then there is nothing to keep */
    struct strbuf text;
    char path[PATH_MAX];
    int status;

    snprintf(path, sizeof(path), "%s/profile", out);
    strbuf_init(&text, ETC_FILE_MAX_BYTES);
    if (files_read(path, &text, &missing) < 0) {
        strbuf_reset(&text);
    } else if (text.length > 0 && text.data[text.length - 1] != '\n') {
        strbuf_putc(&text, '\n');
    }
    strbuf_puts(&text, line);
    status = text.overflow ? error_set(err, ERR_TOO_LARGE, "%s is too large", path)
                           : files_write(path, text.data, text.length, 0644, err);
    strbuf_done(&text);
    return status;
}

static int copy_named(const char *out, struct error *err)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char from[PATH_MAX], to[PATH_MAX];

        snprintf(from, sizeof(from), "/etc/%s", names[i]);
        snprintf(to, sizeof(to), "%s/%s", out, names[i]);
        if (access(from, F_OK) == 0 && files_copy_public(from, to, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int etc_prepare(const char *root, const char *out, struct error *err)
{
    char from[PATH_MAX];

    if (files_make_dir(out, 0755, err) < 0) {
        return -1;
    }
    if (root == NULL) {
        if (copy_named(out, err) < 0) {
            return -1;
        }
    } else {
        if (snprintf(from, sizeof(from), "%s/etc", root) >= (int)sizeof(from)) {
            return error_set(err, ERR_CONFIG, "%.100s...: path too long", root);
        }
        if (access(from, F_OK) == 0 && files_copy_public(from, out, err) < 0) {
            return -1;
        }
    }
    if (write_accounts(out, "passwd", root != NULL,
                       "root:x:0:0:root:/root:/bin/bash\n"
                       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
                       USER_LINE, err) < 0 ||
        write_accounts(out, "group", root != NULL, "root:x:0:\nnogroup:x:65534:\n", GROUP_LINE,
                       err) < 0 ||
        write_line(out, "hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n", err) < 0 ||
        write_line(out, "hostname", "sandbox\n", err) < 0 ||
        /* slirp4netns's resolver; without a way out it is as unreachable as everything else */
        write_line(out, "resolv.conf", "nameserver 10.0.2.3\n", err) < 0) {
        return -1;
    }
    return write_profile(out, err);
}
