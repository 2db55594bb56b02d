#!/bin/bash
# The rules of the tree that a compiler does not check. Prints file:line of each breach; exits 1 if any.
set -u
shopt -s lastpipe # a breach at the end of a pipe counts here, not in a subshell
cd "$(dirname "$0")/.." || exit 1
failed=0
breach() { # title, then lines on stdin
    local lines
    lines=$(cat)
    [ -z "$lines" ] && return
    failed=1
    printf '%s:\n%s\n' "$1" "$lines" | sed '2,$s/^/  /'
}
sources() { git ls-files -- "$@" | grep -E '\.(c|h)$'; }
grep_in() { # pattern, files on stdin
    xargs -r grep -nE -- "$1" /dev/null
}
product=$(sources common gateway lifecycle-worker reaper deploy)
everything=$(sources common gateway lifecycle-worker reaper deploy tests)

# each library is included by one module only
only() { # header pattern, allowed path pattern
    grep_in "#include <($1)>" <<<"$product" | grep -vE "^($2)" | breach "<$1> outside $2"
}
only 'libpq-fe\.h' 'common/store/'
only 'hiredis/.*' 'common/queue/'
only 'civetweb\.h' 'common/httpd/'
only 'curl/.*' 'common/provider/'
only 'jwt\.h' 'gateway/auth/jwt\.c'
only 'openssl/.*' 'common/proxy/tls\.c'
only 'cjson/.*' 'common/base/json\.h'

# base <- domain <- {store, queue, provider, httpd <- proxy} <- programs
forbid() { # folder, modules it may not include
    sources "$1" | grep_in "#include \"($2)/" | breach "$1 includes what lies above or beside it"
}
forbid common/base 'common/(domain|store|queue|provider|httpd|proxy)|gateway|lifecycle-worker|reaper|deploy'
forbid common/domain 'common/(store|queue|provider|httpd|proxy)|gateway|lifecycle-worker|reaper|deploy'
forbid common/store 'common/(queue|provider|httpd|proxy)|gateway|lifecycle-worker|reaper|deploy'
forbid common/queue 'common/(store|provider|httpd|proxy)|gateway|lifecycle-worker|reaper|deploy'
forbid common/provider 'common/(store|queue|httpd|proxy)|gateway|lifecycle-worker|reaper|deploy'
forbid common/httpd 'common/(domain|store|queue|provider|proxy)|gateway|lifecycle-worker|reaper|deploy'
forbid common/proxy 'common/(domain|store|queue|provider)|gateway|lifecycle-worker|reaper|deploy'
forbid gateway 'lifecycle-worker|reaper|deploy'
forbid lifecycle-worker 'common/(httpd|proxy)|gateway|reaper|deploy'
forbid reaper 'common/(provider|httpd|proxy)|gateway|lifecycle-worker|deploy'
forbid deploy/sandbox-host 'common/(domain|store|queue|provider)|gateway|lifecycle-worker|reaper|deploy/template'
# the rooms of the host: main <- api <- sandbox <- isolation, and the agent beside them
forbid deploy/sandbox-host/api 'deploy/sandbox-host/agent'
forbid deploy/sandbox-host/sandbox 'deploy/sandbox-host/(api|agent)'
forbid deploy/sandbox-host/isolation 'deploy/sandbox-host/(api|sandbox|agent)'
forbid deploy/sandbox-host/agent 'deploy/sandbox-host/(api|sandbox|isolation)'
forbid deploy/template 'common/(domain|store|queue|provider)|gateway|lifecycle-worker|reaper|deploy/sandbox-host'

# rooms of the gateway
forbid gateway/auth 'gateway/(http|work|data|cli)'
forbid gateway/work 'gateway/(data|cli)'
forbid gateway/http 'gateway/cli'
forbid gateway/cli 'gateway/(http|work|data)'
git ls-files 'gateway/http/handlers_*.c' | xargs -r grep -n 'http/request_state\.h' |
    breach 'a handler looks behind the request (gateway/http/request.h)'

# calls with no bound, no error or no place here
grep_in '\b(sprintf|vsprintf|strcpy|strcat|strncat|strtok|atoi|atol|gets|localtime|gmtime|system)\(' <<<"$everything" |
    breach 'banned call'
grep_in '(^|[^a-z_>.])(malloc|calloc|realloc|strdup|strndup)\(' <<<"$product" |
    grep -vE '^common/base/alloc\.c' | breach 'allocation that is not checked (use xmalloc and its family)'

# one list, one place
grep_in '"[^"]*\b(SELECT|INSERT INTO|UPDATE|DELETE FROM) [a-z_*(]' <<<"$product" |
    grep -vE '^common/store/' | breach 'SQL outside common/store'
grep_in '"sandbox:[a-z]' <<<"$product" | grep -vE '^common/queue/keys\.h' | breach 'Redis key outside common/queue/keys.h'

# a place to die that nothing passes proves nothing
grep -oE '^X\([a-z_]+' common/base/crashpoints.def | cut -c3- | while read -r name; do
    xargs -r grep -qE "CRASHPOINT\($name\)" <<<"$product" || echo "$name"
done | breach 'in crashpoints.def and in no program'

# two that land side by side each pass alone
for migration in deploy/migrations/*.sql; do
    name=${migration##*/}
    echo "${name%%_*}"
done | uniq -d | breach 'number of two migrations'

# a mutant that fits no longer proves nothing, and is not seen before the next mutation run
for patch in tests/mutation/*.patch; do
    git apply --check "$patch" 2>/dev/null || echo "$patch"
done | breach 'does not fit its source'

# style
grep_in '\b(TODO|FIXME|XXX|HACK)\b' <<<"$(git ls-files -- '*.c' '*.h' '*.sh' '*.py' | grep -v '^tests/lint.sh')" | breach 'left open'
grep_in '^[^"]*[^:"]//' <<<"$everything" | grep -vE 'https?://' | breach 'not a /* comment */'
git grep -nE '\.\./(shared|\.library)' -- . ':!tests/lint.sh' | breach 'refers outside the project'
xargs -r wc -l <<<"$product" | awk '$2 != "total" && $1 > 700 {print $2 ": " $1 " lines"}' | breach 'longer than 700 lines'

# every header stands alone
while read -r header; do
    gcc -std=c11 -D_GNU_SOURCE -DVERSION='""' -I. -I"$(pg_config --includedir 2>/dev/null || echo /usr/include/postgresql)" \
        -fsyntax-only -x c "$header" 2>&1 | grep -m1 -E 'error' || true
done < <(grep '\.h$' <<<"$product") | breach 'header that does not compile alone'

/usr/bin/python3 tests/lint_template.py | breach 'deploy/template'

# no file calls, even through others, a file that calls it; no header declares another file's functions.
# What is built here, the tests after lint use. The command runner is linked without object files, so name its own.
mapfile -t runner < <(git ls-files 'deploy/command-runner/*.c' | sed 's|^|build/release/|; s|c$|o|')
if make -j2 -s build "${runner[@]}" >/dev/null; then
    /usr/bin/python3 tests/lint_circles/check.py | breach 'circle of files'
else
    echo 'make build failed' | breach 'not built'
fi

git ls-files '*.sh' '.ci/run' | xargs -r shellcheck -f gcc 2>&1 | breach 'not as shellcheck has it'

# one shape of code; .clang-format is for the version that Debian 12 has
xargs -r clang-format --dry-run <<<"$everything" 2>&1 | grep -E 'clang-format-violations' | cut -d: -f1,2 | breach 'not as clang-format has it (make format)'

# the top level is fixed
git ls-files | cut -d/ -f1 | sort -u |
    grep -vE '^(\..*|Makefile|gateway|lifecycle-worker|reaper|common|deploy|tests|docker-compose\.yml|README\.md|LICENSE)$' |
    breach 'not one of the agreed top-level names'
exit $failed
