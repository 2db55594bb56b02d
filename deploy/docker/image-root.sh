#!/bin/bash
# Lays out the root file system of a runtime image: one program, the shared libraries it links and
# nothing else, so that the image has no shell, no package manager and no tool to misuse.
#
#   deploy/docker/image-root.sh PROGRAM FOLDER
#
# Every file comes from an installed Debian package. Each package's control record goes to
# var/lib/dpkg/status.d (where scanners such as Trivy and Syft look in images without dpkg) and its
# copyright file stays beside it. All times are set to SOURCE_DATE_EPOCH, so the same packages give
# the same image.
set -euo pipefail
program=$1 root=$2
: "${SOURCE_DATE_EPOCH:=0}"

mkdir -p "$root"/{etc,usr/bin,usr/lib,usr/lib64,usr/local/bin,var/lib/dpkg/status.d}
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
install -m 0755 "$program" "$root/usr/local/bin/"

# where dpkg knows a file whose path may go through the merged /lib
owner_of() { # file
    dpkg -S "$1" 2>/dev/null || dpkg -S "/usr$1" 2>/dev/null || dpkg -S "${1#/usr}"
}
keep() { # file: copies it to the same place, and tells its package
    local file=$1 package
    mkdir -p "$root$(dirname "$file")"
    cp -L "$file" "$root$file"
    package=$(owner_of "$file" | head -n 1 | cut -d: -f1)
    dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
    install -D -m 0644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
}

mapfile -t libraries < <(ldd "$program" | sed -nE 's/^\s*(.* => )?(\/[^ ]+) \(0x[0-9a-f]+\)$/\2/p')
[ ${#libraries[@]} -gt 0 ] || { echo "image-root.sh: $program links nothing?" >&2; exit 1; }
for library in "${libraries[@]}"; do keep "$library"; done

# certificates for HTTPS to the providers; one bundle, made from the package's files
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
dpkg-query -s ca-certificates >"$root/var/lib/dpkg/status.d/ca-certificates"
install -D -m 0644 /usr/share/doc/ca-certificates/copyright "$root/usr/share/doc/ca-certificates/copyright"
install -m 0644 /etc/os-release "$root/etc/os-release"

printf 'root:x:0:0::/:/nonexistent\nsandbox:x:10001:10001::/:/nonexistent\n' >"$root/etc/passwd"
printf 'root:x:0:\nsandbox:x:10001:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
