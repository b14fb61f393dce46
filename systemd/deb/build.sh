#!/bin/bash
# Builds dist/mjrelay_VERSION_ARCH.deb, with the libraries that Debian has not, or not new enough.
#
#     make deb [DEB_VERSION=1.2.3] [DEB_ARCH=arm64] [DEB_PYTHON=3.13]
#
# Nothing is compiled: the libraries are wheels for that processor and that Python. So a package for
# a Raspberry Pi can be made on any computer; for armhf, whose wheels are Raspberry Pi OS's own, on
# the Pi.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
version=${DEB_VERSION:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$project/mjrelay/__init__.py")}
arch=${DEB_ARCH:-$(dpkg --print-architecture)}
# Debian 12's.
python=${DEB_PYTHON:-3.11}
# Not /opt, which is not for packages of a distribution's kind, and not dist-packages, where these
# libraries would take the place of Debian's for every other program.
library=/usr/lib/mjrelay

main() {
    tags=$(platforms) || fail "no wheels are known for $arch; these are: amd64, arm64, armhf"
    build_wheel
    vendor
    add_program
    add_documents
    add_control
    mkdir -p "$project/dist"
    dpkg-deb --root-owner-group --build "$tree" "$project/dist/mjrelay_${version}_$arch.deb"
}

fail() { echo "build.sh: $*" >&2; exit 1; }

# The names that wheels have for a processor; Debian 12's C library is newer than all of these.
platforms() {
    local processor
    case $arch in
        amd64) processor=x86_64 ;;
        arm64) processor=aarch64 ;;
        armhf) processor=armv7l; echo linux_armv7l ;;
        *) return 1 ;;
    esac
    printf "%s_$processor\n" manylinux2014 manylinux_2_28 manylinux_2_31 manylinux_2_34
}

pip() { python3 -m pip --disable-pip-version-check --quiet "$@"; }

build_wheel() {
    rm -rf "$project/build"  # a module that has been deleted may still be there
    pip wheel --no-deps --wheel-dir "$scratch/wheel" "$project"
}

vendor() {
    local options=() tag
    for tag in $tags; do options+=(--platform "$tag"); done
    pip install --no-compile --target "$tree$library" --implementation cp \
        --python-version "$python" --only-binary=:all: "${options[@]}" "$scratch"/wheel/*.whl
    # Programs of libraries, our own start script for another folder, and what other paths below
    # have; tests and headers nobody needs at run time.
    rm -rf "$tree$library"/{bin,share} "$tree$library"/*/tests
    find "$tree$library" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.c' \
        -o -name '*.h' -o -name '*.hash' -o -name '*.pyi' -o -name __pycache__ \) \
        -exec rm -rf {} + -prune
    find "$tree$library" -type d -empty -delete
    find "$tree$library" -type f -exec chmod 644 {} +
}

add_program() {
    local systemd=$project/systemd
    install -D -m 755 "$here/launcher" "$tree/usr/bin/mjrelay"
    install -D -m 644 "$systemd/starter.toml" "$tree/etc/mjrelay/mjrelay.toml"
    install -D -m 644 -t "$tree/usr/lib/systemd/system" "$systemd"/mjrelay.{service,socket}
    install -D -m 644 "$systemd/60-mjrelay.rules" "$tree/usr/lib/udev/rules.d/60-mjrelay.rules"
    install -D -m 644 "$systemd/mjrelay.sysusers.conf" "$tree/usr/lib/sysusers.d/mjrelay.conf"
}

add_documents() {
    local documents=$tree/usr/share/doc/mjrelay
    install -D -m 644 -t "$documents" "$here/copyright"
    install -D -m 644 -t "$documents/examples" "$project/mjrelay.toml" \
        "$project/systemd/kernel-messages.conf"
    filled_in "$here/changelog" | gzip -9n > "$documents/changelog.gz"
    install -D -m 644 "$here/lintian-overrides" "$tree/usr/share/lintian/overrides/mjrelay"
}

add_control() {
    local control=$tree/DEBIAN script
    mkdir -p "$control"
    filled_in "$here/control" > "$control/control"
    cp "$here/conffiles" "$control/"
    for script in postinst prerm postrm; do
        install -m 755 "$here/$script" "$control/$script"
    done
    (cd "$tree" && find usr -type f -printf '%P\0' | sort -z | sed -z 's#^#usr/#' |
        xargs -0 md5sum) > "$control/md5sums"
    chmod 644 "$control"/{control,conffiles,md5sums}
}

filled_in() {
    sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@PYTHON@/$python/" \
        -e "s/@NEXT_PYTHON@/${python%.*}.$((${python#*.} + 1))/" \
        -e "s/@SIZE@/$(du -sk --exclude DEBIAN "$tree" | cut -f1)/" \
        -e "s/@DATE@/$(date -R --date="@${SOURCE_DATE_EPOCH:-$(date +%s)}")/" "$1"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree
umask 022
main
