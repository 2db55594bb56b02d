/*
 * path_script - see path_script.h.
 */
#include "common/provider/path_script.h"

#include <stdio.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/provider/text.h"

/* $1 owner of what is made, "" = whoever runs the script; $2 the path. A relative path begins where
 * commands start, "~" is the home directory. */
static const char prelude[] =
    "LC_ALL=C; export LC_ALL; umask 022\n"
    "say() { printf '%s\\n' \"$*\"; exit 0; }\n"
    "fail() { say fail \"${1##*: }\"; }\n"
    "hex() { printf %s \"$1\" | od -An -v -tx1 | tr -d ' \\n'; }\n"
    "decode() { v=$(printf %bx \"$1\"); v=${v%x}; }\n"
    "look() { m=$(stat -L -c \"$1\" -- \"$p\" 2>&1); }\n"
    "absent() { case $m in *'No such file or directory') ;; *) fail \"$m\";; esac; }\n"
    "owner=$1; h=$HOME; r=$PWD\n"
    "if [ -n \"$owner\" ]; then eval \"h=~$owner\"; [ -d \"$h\" ] || h=$HOME; r=$h; fi\n"
    "decode \"$2\"; p=$v; shift 2\n"
    "case $p in /*) ;; '~'|'~/'*) p=$h${p#'~'};; *) p=${r%/}/$p;; esac\n";

/* Where a file's content goes: links are followed to the file that is replaced. Sets p, d (its
 * directory) and old (1 = it exists). */
static const char find_target[] =
    "target() {\n"
    "  if look %f; then\n"
    "    case $m in 8*) ;; 4*) fail 'Is a directory';; *) fail 'Not a regular file';; esac\n"
    "    old=1\n"
    "  else\n"
    "    absent; old=\n"
    "  fi\n"
    "  n=0\n"
    "  while [ -L \"$p\" ]; do\n"
    "    n=$((n+1)); [ $n -lt 41 ] || fail 'Too many levels of symbolic links'\n"
    "    l=$(readlink -- \"$p\"; echo x); l=${l%?x}\n"
    "    case $l in /*) p=$l;; *) p=${p%/*}/$l;; esac\n"
    "  done\n"
    "  case $p in */) fail 'Is a directory';; esac\n"
    /* touch opens nothing here, but tells a read-only file system from a missing right */
    "  if [ -n \"$old\" ] && [ ! -w \"$p\" ]; then\n"
    "    m=$(touch -c -- \"$p\" 2>&1) || fail \"$m\"; fail 'Permission denied'\n"
    "  fi\n"
    "  d=${p%/*}; [ -n \"$d\" ] || d=/\n"
    "}\n";

static const char make_dirs[] =
    "make_dirs() {\n"
    "  top=; n=$1\n"
    "  while [ ! -e \"$n\" ] && [ ! -L \"$n\" ]; do top=$n; n=${n%/*}; [ -n \"$n\" ] || n=/; done\n"
    "  m=$(mkdir -p -- \"$1\" 2>&1) || fail \"$m\"\n"
    "  [ -z \"$owner\" ] || [ -z \"$top\" ] || chown -R -- \"$owner:\" \"$top\" 2>/dev/null || :\n"
    "}\n";

/* The temporary file is beside the target, so that a rename puts it there; where the directory
 * takes no new file, but the target may be written, it is in /tmp. Nothing is left of the trial:
 * root may not open a file of another in a sticky directory with O_CREAT (fs.protected_regular). */
static const char find_stage[] =
    "stage() {\n"
    "  t=${d%/}/$1\n"
    "  [ ! -e \"$t\" ] || return 0\n"
    "  if m=$( { : >\"$t\"; } 2>&1 ); then rm -f -- \"$t\"; return; fi\n"
    "  [ -n \"$old\" ] || fail \"$m\"\n"
    "  t=/tmp/$1\n"
    "}\n";

/* A file that is replaced keeps its mode, and its owner where that may be set. A mount point cannot
 * be replaced by a rename, and a stage in /tmp cannot be renamed: then the content is copied. */
static const char commit[] =
    "commit() {\n"
    "  if [ -n \"$old\" ]; then\n"
    "    chmod \"$(stat -c %a -- \"$p\")\" \"$t\"; chown \"$(stat -c %u:%g -- \"$p\")\" \"$t\"\n"
    "  elif [ -n \"$owner\" ]; then\n"
    "    chown \"$owner:\" \"$t\"\n"
    "  fi 2>/dev/null\n"
    "  [ \"${t%/*}\" = \"${d%/}\" ] && mv -f -- \"$t\" \"$p\" 2>/dev/null && return 0\n"
    "  m=$( { cat <\"$t\" >\"$p\"; } 2>&1 ); n=$?; rm -f -- \"$t\"; [ $n = 0 ] || fail \"$m\"\n"
    "}\n";

/* Files of /proc and /sys say size 0 and have content; what a provider reads of them is wrong in
 * several ways. They are copied, and some of them never end or never begin: hence the bounds. */
static const char open_body[] =
    "look '%f %s %i %z' || fail \"$m\"\n"
    "name=$1 limit=$2; set -- $m\n"
    "case $1 in 8*) ;; 4*) fail 'Is a directory';; *) fail 'Not a regular file';; esac\n"
    "[ -r \"$p\" ] || fail 'Permission denied'\n"
    "s=$2; tag=$3.$4.$5\n"
    "if [ \"$s\" = 0 ]; then\n"
    "  m=$( { timeout 5 head -c 1 -- \"$p\" | od -An -tx1; } 2>&1 )\n"
    "  case $m in '') say ok 0 \"$(hex \"$p\")\" \"$tag\";; *head:*) fail \"$m\";; esac\n"
    "  t=/tmp/$name\n"
    "  m=$( { timeout 10 head -c \"$limit\" -- \"$p\" >\"$t\"; } 2>&1 ) || { rm -f -- \"$t\"; fail "
    "\"$m\"; }\n"
    "  say copy \"$(stat -c %s -- \"$t\")\" \"$(hex \"$t\")\" -\n"
    "fi\n"
    "say ok \"$s\" \"$(hex \"$p\")\" \"$tag\"\n";

static const char prepare_body[] = "target; make_dirs \"$d\"; stage \"$1\"\n"
                                   "say ok \"$(hex \"$t\")\" \"$(hex \"$p\")\"\n";

static const char commit_body[] = "decode \"$1\"; t=$v\n"
                                  "[ \"$(stat -c %s -- \"$t\" 2>/dev/null)\" = \"$2\" ] || { rm -f "
                                  "-- \"$t\"; fail 'Only a part of "
                                  "the content was kept'; }\n"
                                  "target; commit; say ok\n";

/* cat, because base64 does not say why it could not write */
static const char write_body[] =
    "target; make_dirs \"$d\"; stage \"$1\"\n"
    "m=$( { printf %s \"${2#*:}\" | base64 -d | cat >\"$t\"; } 2>&1 )\n"
    "[ \"$(stat -c %s -- \"$t\" 2>/dev/null)\" = \"${2%%:*}\" ] || { rm -f -- \"$t\"; fail \"$m\"; "
    "}\n"
    "commit; say ok\n";

/* Holds $1.lock, whose target is the pid of this shell, until the script ends. A lock whose process
 * is gone is taken over. */
static const char lock[] =
    "lock() {\n"
    "  n=0\n"
    "  while ! m=$(ln -s $$ \"$1.lock\" 2>&1); do\n"
    "    o=$(readlink -- \"$1.lock\" 2>/dev/null)\n"
    "    [ -n \"$o\" ] || [ $n -lt 3 ] || fail \"$m\"\n"
    "    [ -z \"$o\" ] || [ -d \"/proc/$o\" ] || rm -f -- \"$1.lock\"\n"
    "    n=$((n+1)); [ $n -lt 300 ] || fail 'Resource busy'; sleep 0.1 2>/dev/null || sleep 1\n"
    "  done\n"
    "  locked=$1.lock; trap 'rm -f -- \"$locked\"' EXIT\n"
    "}\n";

/* Appends $1 to $2, and removes it. The name of $1 ends in .<offset>.<random>: if $2 has another
 * size, another call has gone on with the upload, and $1 is only removed. $3 = nobody writes to $1
 * any more. Root has to own a file of another in a sticky directory before it may open it with
 * O_CREAT (fs.protected_regular). */
static const char append[] =
    "append() {\n"
    "  [ -e \"$1\" ] || return 0\n"
    "  a=${1%.*}; a=${a##*.}; s=$(stat -c %s -- \"$2\" 2>/dev/null || echo 0)\n"
    "  if [ \"$a\" != \"$s\" ]; then rm -f -- \"$1\"; return; fi\n"
    "  if [ -n \"$3\" ] && [ ! -e \"$2\" ]; then mv -- \"$1\" \"$2\"; return; fi\n"
    "  [ ! -e \"$2\" ] || chown \"$(id -u)\" \"$2\" 2>/dev/null\n"
    "  m=$( { cat <\"$1\" >>\"$2\"; } 2>&1 ); n=$?; rm -f -- \"$1\"; [ $n = 0 ] || fail \"$m\"\n"
    "}\n";

/* What an earlier call left beside the temporary file, because it ended before it could say so,
 * counts. A call that is still sending loses its upload to this one. */
static const char resume_body[] =
    "target; make_dirs \"$d\"; stage \"$1\"; lock \"$t\"\n"
    "for f in \"$t\".rest.*; do append \"$f\" \"$t\" ''; done\n"
    "have=$(stat -c %s -- \"$t\" 2>/dev/null || echo 0)\n"
    "[ \"$2\" -le \"$have\" ] || say short \"$have\"\n"
    "if [ \"$2\" = 0 ]; then rm -f -- \"$t\"\n"
    "elif [ \"$2\" -lt \"$have\" ]; then chown \"$(id -u)\" \"$t\" 2>/dev/null; m=$(truncate -s "
    "\"$2\" -- \"$t\" 2>&1) || fail \"$m\"; fi\n"
    "say ok \"$(hex \"$t\")\" \"$(hex \"$p\")\"\n";

static const char append_body[] = "lock \"$p\"; decode \"$1\"; append \"$v\" \"$p\" ended\n"
                                  "say ok \"$(stat -c %s -- \"$p\" 2>/dev/null || echo 0)\"\n";

static const char discard_body[] = "rm -f -- \"$p\"; say ok\n";

static const char make_dir_body[] =
    "if look %f; then\n"
    "  case $m in 4*) say old;; esac\n"
    "  case $p in */) fail 'Not a directory';; *) fail 'File exists';; esac\n"
    "fi\n"
    "absent\n"
    "[ ! -L \"$p\" ] || fail 'File exists'\n"
    "make_dirs \"$p\"; say ok\n";

/* A link goes, never what it leads to. */
static const char remove_body[] =
    "m=$(stat -c %f -- \"$p\" 2>&1) || fail \"$m\"\n"
    "while :; do case $p in ?*/) p=${p%/};; *) break;; esac; done\n"
    "case $p in /) fail 'Operation not permitted';; */.|*/..) fail 'Invalid argument';; esac\n"
    "if [ -L \"$p\" ] || [ ! -d \"$p\" ]; then\n"
    "  m=$(rm -f -- \"$p\" 2>&1) || fail \"$m\"\n"
    "else\n"
    "  [ \"$1\" = 1 ] || fail 'Is a directory'\n"
    "  m=$(rm -rf -- \"$p\" 2>&1) || fail \"$m\"\n"
    "fi\n"
    "say ok\n";

/*
 * Each name comes with a fact "e<type> <size>" of what it is or leads to (find -L) and, for a link,
 * "l<type> <target>". find -L leaves out links that lead back up, so the second fact has a type,
 * too. Where find prints nothing of its own (busybox), a loop does the same, slowly. awk turns the
 * bytes into one line of hex digits per fact; they sort as the names do.
 */
static const char list_body[] =
    "look %f || fail \"$m\"\n"
    "case $m in 4*) ;; *) fail 'Not a directory';; esac\n"
    "[ -r \"$p\" ] || fail 'Permission denied'\n"
    "m=$(cd -- \"$p\" 2>&1) || fail 'Permission denied'\n"
    "cd -- \"$p\"\n"
    "facts() {\n"
    "  if find . -maxdepth 0 -printf x >/dev/null 2>&1; then\n"
    "    find -L . -mindepth 1 -maxdepth 1 -printf '%P\\0e%y %s\\0'\n"
    "    find . -mindepth 1 -maxdepth 1 -type l -printf '%P\\0l%Y %l\\0'\n"
    "    return\n"
    "  fi\n"
    "  for f in * .[!.]* ..?*; do\n"
    "    [ -e \"$f\" ] || [ -L \"$f\" ] || continue\n"
    "    y=o; [ ! -f \"$f\" ] || y=f; [ ! -d \"$f\" ] || y=d\n"
    "    printf '%s\\0e%s %s\\0' \"$f\" \"$y\" \"$(stat -L -c %s -- \"$f\" || echo 0)\"\n"
    "    [ ! -L \"$f\" ] || { l=$(readlink -- \"$f\"; echo x); printf '%s\\0l%s %s\\0' \"$f\" "
    "\"$y\" \"${l%?x}\"; }\n"
    "  done\n"
    "}\n"
    "facts 2>/dev/null | od -An -v -tx1 | awk -v after=\"$1\" '\n"
    "  { for (i = 1; i <= NF; i++) {\n"
    "      if ($i != \"00\") { text = text $i }\n"
    "      else if (name == \"\") { name = text; text = \"\" }\n"
    "      else { if ((\"x\" name) > (\"x\" after)) print name, text; name = text = \"\" } } }' |\n"
    "sort | awk -v limit=\"$2\" '\n"
    "  (\"x\" $1) != last { last = \"x\" $1; if (++count > limit) { full = 1; exit } }\n"
    "  { print }\n"
    "  END { print full ? \"more\" : \"end\" }'\n";

void path_script_put(struct strbuf *out, enum path_verb verb)
{
    enum { PARTS_MAX = 6 };
    static const char *const bodies[PATH_VERB_COUNT][PARTS_MAX] = {
        [PATH_OPEN] = {open_body},
        [PATH_PREPARE] = {find_target, make_dirs, find_stage, prepare_body},
        [PATH_RESUME] = {find_target, make_dirs, find_stage, lock, append, resume_body},
        [PATH_APPEND] = {lock, append, append_body},
        [PATH_COMMIT] = {find_target, commit, commit_body},
        [PATH_WRITE] = {find_target, make_dirs, find_stage, commit, write_body},
        [PATH_DISCARD] = {discard_body},
        [PATH_MAKE_DIR] = {make_dirs, make_dir_body},
        [PATH_REMOVE] = {remove_body},
        [PATH_LIST] = {list_body},
    };

    strbuf_puts(out, prelude);
    for (size_t i = 0; i < PARTS_MAX && bodies[verb][i] != NULL; i++) {
        strbuf_puts(out, bodies[verb][i]);
    }
}

void path_script_put_path(struct strbuf *out, const char *path)
{
    for (const unsigned char *c = (const unsigned char *)path; *c != '\0'; c++) {
        strbuf_printf(out, "\\0%03o", *c);
    }
}

int path_script_take_hex(struct strbuf *out, const char *hex, size_t length)
{
    static const char digits[] = "0123456789abcdef";

    if (length % 2 != 0) {
        return -1;
    }
    for (size_t i = 0; i < length; i += 2) {
        const char *high = memchr(digits, hex[i], 16), *low = memchr(digits, hex[i + 1], 16);
        if (high == NULL || low == NULL ||
            strbuf_putc(out, (char)((high - digits) << 4 | (low - digits))) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The words of glibc, musl and the shells; a code may have several. */
static const struct {
    const char *words;
    enum error_code code;
} causes[] = {
    {"no such file or directory", ERR_FILE_NOT_FOUND},
    {"directory nonexistent", ERR_FILE_NOT_FOUND},
    {"not a directory", ERR_NOT_DIRECTORY},
    {"is a directory", ERR_IS_DIRECTORY},
    {"not a regular file", ERR_NOT_REGULAR},
    {"permission denied", ERR_PERMISSION},
    {"operation not permitted", ERR_PERMISSION},
    {"read-only file system", ERR_READ_ONLY},
    {"file name too long", ERR_NAME_TOO_LONG},
    {"filename too long", ERR_NAME_TOO_LONG},
    {"too many levels of symbolic links", ERR_SYMLINK_LOOP},
    {"symbolic link loop", ERR_SYMLINK_LOOP},
    {"no space left on device", ERR_NO_SPACE},
    {"quota exceeded", ERR_NO_SPACE},
    {"not enough disk space", ERR_NO_SPACE},
    {"not enough inodes", ERR_NO_SPACE},
    {"file too large", ERR_NO_SPACE},
    {"file exists", ERR_EXISTS},
    {"resource busy", ERR_CONFLICT},
    {"text file busy", ERR_CONFLICT},
    {"directory not empty", ERR_CONFLICT},
    {"invalid argument", ERR_INVALID},
};

enum error_code path_script_cause(const char *words)
{
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        if (strcasestr(words, causes[i].words) != NULL) {
            return causes[i].code;
        }
    }
    return ERR_PROVIDER;
}

int path_script_fail(enum error_code code, const char *path, struct error *err)
{
    static const char *const texts[ERR_COUNT] = {
        [ERR_FILE_NOT_FOUND] = "does not exist",
        [ERR_NOT_DIRECTORY] = "is not a directory, or is below a file",
        [ERR_IS_DIRECTORY] = "is a directory",
        [ERR_NOT_REGULAR] = "is not a regular file",
        [ERR_PERMISSION] = "permission denied",
        [ERR_READ_ONLY] = "is on a read-only file system",
        [ERR_NAME_TOO_LONG] = "has a part that is too long",
        [ERR_SYMLINK_LOOP] = "leads through too many links",
        [ERR_NO_SPACE] = "the sandbox's disk is full",
        [ERR_EXISTS] = "exists",
        [ERR_CONFLICT] = "is in use in the sandbox",
        [ERR_INVALID] = "is not a path that this call takes",
    };
    const size_t bytes = strlen(path);
    char shown[181];

    snprintf(shown, sizeof(shown), "%s", path);
    if (!utf8_is_valid(path, bytes)) {
        provider_clean_text(shown, sizeof(shown), path, bytes, NULL, 0);
    }
    return error_set(err, code, "%s: %s", shown,
                     texts[code] != NULL ? texts[code] : "the provider failed");
}

int path_script_check(const char *answer, const char *path, struct error *err)
{
    if (strncmp(answer, "fail ", 5) != 0) {
        return 0;
    }
    const enum error_code code = path_script_cause(answer + 5);
    if (code == ERR_PROVIDER) {
        char words[120];
        provider_clean_text(words, sizeof(words), answer + 5, strcspn(answer + 5, "\n"), NULL, 0);
        return error_set(err, ERR_PROVIDER, "the sandbox answered: %s", words);
    }
    return path_script_fail(code, path, err);
}
