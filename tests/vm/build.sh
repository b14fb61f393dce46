#!/bin/bash
# Builds the guest: kernel, modules, initramfs and root image, from Debian's packages and PyPI's.
#
# All of it lands in tests/vm/build/, or in $MJRELAY_VM_BUILD, and is made again when the kernel, one of the files in
# tests/vm/guest/, the dependencies in pyproject.toml or this script changed. Nothing is installed
# on this machine, and nothing is compiled.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
guest=$here/guest
build=${MJRELAY_VM_BUILD:-$here/build}
project=$(cd "$here/../.." && pwd)

# program:package
needed="qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mksquashfs:squashfs-tools
        depmod:kmod cpio:cpio zstd:zstd xz:xz-utils"

# What the guest's tests need of the kernel. 9p, overlay and virtio: its own files.
modules="9p 9pnet_virtio virtio_pci virtio_blk virtio-rng overlay squashfs uvcvideo vhci-hcd"
boot_modules="virtio_pci virtio_blk squashfs overlay 9p 9pnet_virtio"

main() {
    check_host
    kernel=$(newest_kernel)
    python=$(debian_python)
    requirements > "$scratch/requirements.txt"
    if [ "$(cat "$build/key" 2>/dev/null)" = "$(key)" ]; then
        say "the guest is built already (Linux $kernel)"
        return
    fi
    rm -rf "$build"
    mkdir -p "$build"
    unpack_kernel
    choose_modules
    make_initramfs
    fetch_python_packages
    make_root
    key > "$build/key"
    say "built: Linux $kernel, Python $python, $(du -sh "$build" | cut -f1)"
}

say() { echo "build.sh: $*"; }
fail() { say "$*" >&2; exit 1; }

check_host() {
    local missing="" pair
    PATH=$PATH:/usr/sbin:/sbin
    for pair in $needed; do
        command -v "${pair%%:*}" > /dev/null || missing+=" ${pair##*:}"
    done
    python3 -m pip --version > /dev/null 2>&1 || missing+=" python3-pip"
    [ -z "$missing" ] || fail "programs are missing; get them with: apt-get install$missing"
    [ "$(id -u)" = 0 ] || fail "needs root, to make the guest's root image with mmdebstrap"
    sources=$(debian_sources) || fail "found no Debian package sources in /etc/apt"
    release=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
}

# This machine's own Debian sources: whatever mirror it uses, the guest's packages come from there.
debian_sources() {
    local file
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        if [ -s "$file" ]; then echo "$file"; return; fi
    done
    return 1
}

newest_kernel() {
    local package
    package=$(apt-cache depends linux-image-amd64 |
        sed -n 's/.*Depends: linux-image-\([0-9].*\)/\1/p' | head -1)
    [ -n "$package" ] || fail "apt knows no linux-image-amd64: run apt-get update, on Debian"
    echo "$package"
}

debian_python() {
    apt-cache show python3-minimal | sed -n 's/^Version: \([0-9]*\.[0-9]*\).*/\1/p' | head -1
}

# The project's dependencies are written down once, in pyproject.toml.
requirements() {
    python3 - "$project/pyproject.toml" <<'PYTHON'
import pathlib, sys, tomllib
pyproject = tomllib.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
print(*pyproject["project"]["dependencies"], sep="\n")
PYTHON
    cat "$guest/requirements.txt"
}

key() {
    { echo "$kernel $python $release"; cat "$scratch/requirements.txt" "$0" "$here"/vmlinux.py
      find "$guest" -type f ! -name run-command | sort | xargs cat; } | sha256sum
}

# Plain .deb files, unpacked and never installed here.
unpack_kernel() {
    say "fetching Linux $kernel"
    (cd "$scratch" && apt-get -qq download "linux-image-$kernel" busybox-static)
    dpkg-deb -x "$scratch"/linux-image-*.deb "$scratch/kernel"
    # Newer packages have /usr/lib/modules, which kmod calls /lib/modules.
    [ -e "$scratch/kernel/lib" ] || ln -s usr/lib "$scratch/kernel/lib"
    dpkg-deb -x "$scratch"/busybox-static_*.deb "$scratch/busybox"
    python3 "$here/vmlinux.py" "$scratch/kernel/boot/vmlinuz-$kernel" "$build/vmlinux"
}

# The files a set of modules needs, their dependencies first.
module_files() {
    local root=$1 module
    shift
    for module in "$@"; do
        modprobe -d "$root" -S "$kernel" -D -q "$module" || true  # built in, on some kernels
    done | sed -n 's#^insmod \([^ ]*\).*#\1#p' | awk '!seen[$0]++'
}

# Only the modules needed, with an index of their own: hundreds of MB stay out of the image.
choose_modules() {
    local all=$scratch/kernel some=$scratch/modules file
    local folder=lib/modules/$kernel
    depmod -b "$all" "$kernel"
    module_files "$all" $modules | while read -r file; do
        install -D -m 644 "$file" "$some/${file#"$all"/}"
    done
    cp "$all/$folder"/modules.{builtin,builtin.modinfo,order} "$some/$folder/"
    find "$some" -name '*.ko.xz' -exec unxz {} +  # busybox cannot
    depmod -b "$some" "$kernel"
}

make_initramfs() {
    local tree=$scratch/initramfs file
    mkdir -p "$tree"/{bin,lib,dev,proc,sys,image,project,changes,root}
    cp "$scratch/busybox/bin/busybox" "$tree/bin/"
    install -m 755 "$guest/initramfs-init" "$tree/init"
    module_files "$scratch/modules" $boot_modules | while read -r file; do
        cp "$file" "$tree/lib/"
        basename "$file" >> "$tree/lib/order"
    done
    (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) > "$build/initramfs.gz"
}

# For the guest's Python, whatever ours is.
fetch_python_packages() {
    say "fetching Python packages"
    # blockbuster needs this one, which is published as source only: its wheel fits any Python.
    python3 -m pip wheel --quiet --disable-pip-version-check --no-deps \
        --wheel-dir "$scratch/wheels" forbiddenfruit
    python3 -m pip install --quiet --disable-pip-version-check --no-compile \
        --find-links "$scratch/wheels" \
        --target "$scratch/python" --python-version "$python" --implementation cp \
        --only-binary=:all: --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_34_x86_64 --requirement "$scratch/requirements.txt"
}

make_root() {
    say "making the root image"
    local root=$scratch/root
    mmdebstrap --quiet --mode=root --variant=apt --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$(paste -sd, "$guest/packages.txt")" \
        "$release" "$root" "$sources" 2> "$scratch/log" ||
        { cat "$scratch/log" >&2; fail "mmdebstrap failed"; }
    fill_root "$root"
    mksquashfs "$root" "$build/root.squashfs" -comp zstd -Xcompression-level 3 -no-xattrs \
        -quiet -no-progress -e var/cache/apt var/lib/apt/lists
}

fill_root() {
    local root=$1 system=$1/etc/systemd libraries=usr/local/lib/python$python/dist-packages
    local unit generator
    cp -r "$scratch/modules/lib/modules" "$root/usr/lib/"
    cp -r "$scratch/python/." "$root/$libraries/"
    # Emulated, Python compiles slowly. Of some libraries' tests not all files can be compiled.
    chroot "$root" python3 -m compileall -q -j 0 "/$libraries" "/usr/lib/python$python" \
        > /dev/null || true

    install -m 644 "$guest"/command.{service,target} "$system/system/"
    install -D -m 644 "$guest/journald.conf" "$system/journald.conf.d/vm.conf"
    grep -v '^#' "$guest/masked.txt" | while read -r unit; do
        ln -sf /dev/null "$system/system/$unit"
    done
    # None of them would find anything, and each costs a process at boot.
    mkdir -p "$system/system-generators"
    for generator in "$root"/lib/systemd/system-generators/*; do
        ln -sf /dev/null "$system/system-generators/$(basename "$generator")"
    done
    echo mjrelay-test > "$root/etc/hostname"
    echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
    : > "$root/etc/fstab"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
main
