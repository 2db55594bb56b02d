#!/bin/sh
# boot.sh RUNNER ARG...: the first process of a command at a provider; becomes `sh -c RUNNER sh ARG...`.
#
# Gives the runner an empty stdin, outputs that may be opened again by name, and the orphans of all that
# the command starts. The kernel keeps "child subreaper" over an exec, so a small program of the
# sandbox can ask for it and become the runner, if it works at all. A host that has done so already
# sets SANDBOX_SUBREAPER.
exec </dev/null
runner=$1
shift
become_runner() {
    if [ -z "${SANDBOX_SUBREAPER:-}" ]; then
        export SANDBOX_SUBREAPER=1
        if command -v perl >/dev/null 2>&1; then
            # The number of prctl depends on the machine, which the ELF head of perl names: x86-64, arm64, RISC-V.
            # No module, which may be missing: what has become perl can go on to the command only.
            # shellcheck disable=SC2016 # Perl's own variables
            exec perl -e 'my %prctl = (0x3e, 157, 0xb7, 167, 0xf3, 167); my $head = "";
                if (open(my $self, "<", "/proc/self/exe")) { read($self, $head, 20); }
                my $n = length($head) == 20 ? $prctl{unpack("v", substr($head, 18, 2))} : 0;
                $ENV{SANDBOX_SUBREAPER} = $n && syscall($n, 36, 1, 0, 0, 0) == 0 ? 1 : 0;
                exec @ARGV' /bin/sh -c "$runner" sh "$@"
        elif python3 -ISc 'import ctypes' 2>/dev/null; then
            exec python3 -ISc 'import ctypes, os, sys
ok = ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
os.environ["SANDBOX_SUBREAPER"] = str(int(ok))
os.execv(sys.argv[1], sys.argv[1:])' /bin/sh -c "$runner" sh "$@"
        fi
        export SANDBOX_SUBREAPER=0
    fi
    exec /bin/sh -c "$runner" sh "$@"
}
# A pipe that belongs to root cannot be opened as /dev/stdout by anybody else: then pipes of our own.
if { true >/dev/stdout && true >/dev/stderr; } 2>/dev/null; then
    if [ -n "${SANDBOX_SUBREAPER:-}" ]; then
        eval "$runner"
        exit
    fi
    become_runner "$@"
fi
# a signal to the whole group is for the command
trap : HUP INT QUIT TERM
copy() {
    trap '' HUP INT QUIT TERM
    SANDBOX_EXEC_ID='' exec cat
}
{ (become_runner "$@") 2>&1 >&3 3>&- | copy >&2 3>&-; } 3>&1 | copy
