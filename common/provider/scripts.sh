#!/bin/sh
# Writes common/provider/scripts/*.sh as C strings (provider_script_<name>) to stdout, without comments
# and indentation: they are sent with every command. Usage: scripts.sh file.sh ...
set -eu
echo '#include "common/provider/exec_script.h"'
for file in "$@"; do
    printf 'const char provider_script_%s[] =\n' "$(basename "$file" .sh)"
    sed '/^ *#/d; s/^ *//; s/\\/\\\\/g; s/"/\\"/g; s/^/    "/; s/$/\\n"/' "$file"
    echo '    "";'
done
