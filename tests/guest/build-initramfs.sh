#!/usr/bin/env bash
# Builds what the guests boot: Debian's cloud kernel, and one initramfs for QEMU and User Mode Linux alike.
# The result is <cache>/guest/{vmlinuz,base.cpio,fio.cpio}; a second run with the same inputs does nothing.
# fio comes apart: Debian's is linked with 80 MiB of libraries, and not every guest runs it.
set -euo pipefail
. "$(dirname "$0")/cache.sh"
lock_cache

tools=(mkfs.ext4 e2fsck dumpe2fs mkfs.xfs xfs_repair fstrim blkdiscard blockdev lsblk addpart)
# What a guest of these tests loads; modules.dep knows what else each of them needs.
modules=(virtio_pci virtio_mmio virtio_blk ext4 xfs crc32c_generic crc32c-intel)

PATH=$PATH:/usr/sbin:/sbin
out=$cache_dir/guest

# The kernel is the one thing fetched: whatever version the cache holds is used until the cache is cleared.
kernel_deb=$(find "$packages_dir" -maxdepth 1 -name 'linux-image-[0-9]*-cloud-amd64_*.deb' | sort | tail -n 1)
if [ -z "$kernel_deb" ]; then
  kernel_deb=$(fetch_package "$(first_dependency '^linux-image-[0-9]' linux-image-cloud-amd64)")
fi

key=$({
  basename "$kernel_deb"
  dpkg-query -W -f '${Package} ${Version}\n' busybox-static fio e2fsprogs xfsprogs util-linux user-mode-linux libc6
  cat "$guest_dir/cache.sh" "$guest_dir/build-initramfs.sh" "$guest_dir/init"
} | sha256sum | cut -d' ' -f1)
if is_current "$out" "$key"; then
  exit 0
fi

work=$(mktemp -d "$cache_dir/guest.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,tmp,run,mnt,lib/modules,etc}

# busybox for the shell and the small tools. The real tools stand before it in the guest's PATH.
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $(busybox --list); do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
ln -s ../bin/busybox "$root/sbin/modprobe" # where the kernel itself looks for it

# copy_with_libraries TREE FILE TARGET: a library the base holds is not copied again.
copy_with_libraries() {
  local tree=$1 file=$2 target=$3 library
  cp -L "$file" "$tree/$target"
  # "name => path (address)" and "/lib64/ld-linux… (address)"
  { ldd "$file" || true; } | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
    if [ ! -e "$root$library" ] && [ ! -e "$tree$library" ]; then
      mkdir -p "$tree$(dirname "$library")"
      cp -L "$library" "$tree$library"
    fi
  done
}
for tool in "${tools[@]}"; do
  copy_with_libraries "$root" "$(command -v "$tool")" "usr/sbin/$tool"
done
mkdir -p "$work/fio/usr/sbin"
copy_with_libraries "$work/fio" "$(command -v fio)" usr/sbin/fio

# copy_modules TREE VERSION: the wanted modules of TREE/lib/modules/VERSION with all they depend on.
copy_modules() {
  local tree=$1 version=$2 name line file
  local from=$tree/lib/modules/$version to=$root/lib/modules/$version
  mkdir -p "$to"
  # The package's own modules.dep is made when it gets installed; ours was only unpacked.
  busybox depmod -b "$tree" "$version"
  for name in "${modules[@]}"; do
    # Built in, or not part of this kernel: the guest's scenario will show if it was needed.
    line=$(grep -E "/$name\.ko(\.[a-z]+)?:" "$from/modules.dep" || true)
    for file in ${line/:/ }; do
      mkdir -p "$to/$(dirname "$file")"
      cp "$from/$file" "$to/$file"
    done
  done
  find "$to" -name '*.ko.xz' -exec unxz {} +
  find "$to" -name '*.ko.zst' -exec unzstd -q --rm {} +
  busybox depmod -b "$root" "$version"
}

dpkg -x "$kernel_deb" "$work/kernel"
[ -d "$work/kernel/lib/modules" ] || ln -s usr/lib "$work/kernel/lib" # merged /usr, Debian 13
copy_modules "$work/kernel" "$(ls "$work/kernel/lib/modules")"

mkdir -p "$work/uml/lib"
cp -r /usr/lib/uml/modules "$work/uml/lib/modules"
copy_modules "$work/uml" "$(ls "$work/uml/lib/modules")"

install -m 755 "$guest_dir/init" "$root/init"
mkdir "$work/out"
cp "$work"/kernel/boot/vmlinuz-* "$work/out/vmlinuz"
# Not compressed: an emulated processor copies faster than it unpacks.
archive() { (cd "$1" && find . | busybox cpio -o -H newc 2>/dev/null) >"$2"; }
archive "$root" "$work/out/base.cpio"
archive "$work/fio" "$work/out/fio.cpio"
mark_current "$work/out" "$key"
publish "$work/out" "$out"
size_mib() { echo $(($(stat -c %s "$1") >> 20)); }
echo "built guest assets from $(basename "$kernel_deb" .deb): base $(size_mib "$out/base.cpio") MiB, fio $(size_mib "$out/fio.cpio") MiB"
