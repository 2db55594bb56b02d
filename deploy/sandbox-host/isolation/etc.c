/* etc - see etc.h. */
#include "deploy/sandbox-host/isolation/etc.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/strbuf.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/isolation/resolver.h"

enum { ETC_FILE_MAX_BYTES = 1 << 20 };

/* of this machine's /etc */
static const char *const names[] = {
    "alternatives", "ld.so.cache",     "ld.so.conf",   "ld.so.conf.d",    "ssl",
    "localtime",    "ca-certificates", "mime.types",   "profile",         "profile.d",
    "protocols",    "services",        "bash.bashrc",  "nsswitch.conf",   "debian_version",
    "os-release",   "magic",           "python3",      "python3.11",      "java-17-openjdk",
    "fonts",        "gai.conf",        "terminfo",     "inputrc",         "gitconfig",
    "timezone",     "host.conf",       "rpc",          "java-21-openjdk", "skel",
    "shells",       "adduser.conf",    "deluser.conf", "debconf.conf",    "login.defs"};

/* of its /etc/apt: where packages come from. Not apt.conf.d and auth.conf.d, which may hold a proxy
 * and passwords. */
static const char *const sources[] = {"sources.list",  "sources.list.d", "trusted.gpg",  "keyrings",
                                      "trusted.gpg.d", "preferences",    "preferences.d"};

/* One user id cannot give up root for `_apt` while it downloads. */
#define APT_CONFIG "APT::Sandbox::User \"root\";\n"
/* the disk goes with the sandbox: dpkg need not wait for it at every file */
#define DPKG_CONFIG "force-unsafe-io\n"
enum { SYSTEM_IDS = 1000 };

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

/* The accounts of this machine's packages: dpkg's own list names some of them. People's are left
 * out. */
static int read_system_accounts(const char *file, struct strbuf *out, struct error *err)
{
    struct strbuf all;
    char path[PATH_MAX];
    int status;

    snprintf(path, sizeof(path), "/etc/%s", file);
    strbuf_init(&all, ETC_FILE_MAX_BYTES);
    status = files_read(path, &all, err);
    for (const char *line = all.data; status == 0 && *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        const char *id = memchr(line, ':', length);

        id = id != NULL ? memchr(id + 1, ':', length - (size_t)(id + 1 - line)) : NULL;
        if (id != NULL &&
            (strtol(id + 1, NULL, 10) < SYSTEM_IDS || strtol(id + 1, NULL, 10) == 65534)) {
            /* a group's line names its members behind the third colon */
            const char *end = strcmp(file, "group") == 0
                                  ? memchr(id + 1, ':', length - (size_t)(id + 1 - line))
                                  : NULL;

            strbuf_append(out, line, end != NULL ? (size_t)(end + 1 - line) : length);
            strbuf_putc(out, '\n');
        }
        line += length + (line[length] == '\n');
    }
    strbuf_done(&all);
    return status;
}

/* /etc/passwd or /etc/group: the template's own lines, or `fallback`, and `user`. */
static int write_accounts(const char *out, const char *file, bool own, const char *fallback,
                          const char *user_line, struct error *err)
{
    struct error missing = ERROR_INIT; /* then the fallback stands alone */
    struct strbuf before, after;
    char path[PATH_MAX];
    bool found;
    int status;

    snprintf(path, sizeof(path), "%s/%s", out, file);
    strbuf_init(&before, ETC_FILE_MAX_BYTES);
    strbuf_init(&after, 2 * ETC_FILE_MAX_BYTES);
    found = own ? files_read(path, &before, &missing) == 0
                : read_system_accounts(file, &before, &missing) == 0;
    keep_lines(found ? before.data : fallback, &after);
    strbuf_puts(&after, user_line);
    status = files_write(path, after.data, after.length, 0644, err);
    strbuf_done(&before);
    strbuf_done(&after);
    return status;
}

static int write_line(const char *out, const char *file, const char *text, struct error *err)
{
    char path[PATH_MAX + NAME_MAX];

    snprintf(path, sizeof(path), "%s/%s", out, file);
    return files_write(path, text, strlen(text), 0644, err);
}

/* Without a way out a resolver is as unreachable as everything else. */
static int write_resolver(const char *out, struct error *err)
{
    struct strbuf text;
    int status;

    strbuf_init(&text, ETC_FILE_MAX_BYTES);
    resolver_write(&text);
    status = write_line(out, "resolv.conf", text.data, err);
    strbuf_done(&text);
    return status;
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

static int copy_named(const char *folder, const char *out, const char *const *list, size_t count,
                      struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        char from[PATH_MAX], to[PATH_MAX];

        snprintf(from, sizeof(from), "%s/%s", folder, list[i]);
        snprintf(to, sizeof(to), "%s/%s", out, list[i]);
        if (access(from, F_OK) == 0 && files_copy_public(from, to, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* What package managers need to know of sandboxes, where there are such. */
static int write_package_config(const char *out, struct error *err)
{
    static const struct {
        const char *folder, *file, *text;
    } notes[] = {{"apt/apt.conf.d", "99sandbox", APT_CONFIG},
                 {"dpkg/dpkg.cfg.d", "sandbox", DPKG_CONFIG}};
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", out, notes[i].folder);
        if (access(path, F_OK) != 0) {
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s", notes[i].folder, notes[i].file);
        if (write_line(out, path, notes[i].text, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* This machine's /etc, as far as programs need it. */
static int copy_own(const char *out, struct error *err)
{
    static const char *const folders[] = {"apt", "apt/apt.conf.d", "dpkg", "dpkg/dpkg.cfg.d"};
    char path[PATH_MAX - NAME_MAX];

    if (copy_named("/etc", out, names, sizeof(names) / sizeof(names[0]), err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", out, folders[i]);
        if (files_make_dir(path, 0755, err) < 0) {
            return -1;
        }
    }
    snprintf(path, sizeof(path), "%s/apt", out);
    return copy_named("/etc/apt", path, sources, sizeof(sources) / sizeof(sources[0]), err);
}

int etc_prepare(const char *root, const char *out, struct error *err)
{
    char from[PATH_MAX];

    if (files_make_dir(out, 0755, err) < 0) {
        return -1;
    }
    if (root == NULL) {
        if (copy_own(out, err) < 0) {
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
        write_line(out, "hostname", "sandbox\n", err) < 0 || write_resolver(out, err) < 0) {
        return -1;
    }
    return write_package_config(out, err) < 0 ? -1 : write_profile(out, err);
}
