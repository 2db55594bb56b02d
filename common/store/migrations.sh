#!/bin/sh
# Writes deploy/migrations/NNNN_name.sql as a C table (struct migration) to stdout.
# Usage: migrations.sh file.sql ...
set -eu
echo '#include "common/store/store_internal.h"'
echo 'const struct migration store_migrations[] = {'
for file in "$@"; do
    name=$(basename "$file" .sql)
    version=$(echo "$name" | sed 's/^0*\([0-9][0-9]*\)_.*/\1/')
    printf '    {%s, "%s",\n' "$version" "$name"
    sed 's/\\/\\\\/g; s/"/\\"/g; s/^/     "/; s/$/\\n"/' "$file"
    echo '    },'
done
echo '    {0, "", ""},'
echo '};'
