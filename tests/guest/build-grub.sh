#!/usr/bin/env bash
# Builds the boot loader of the test that boots a guest from the disk: <cache>/grub/{boot.img,core.img}.
# boot.img goes to sector 0 and expects core.img from sector 1 on; core.img starts what the first partition, a tar archive, holds.
set -euo pipefail
. "$(dirname "$0")/cache.sh"
lock_cache

out=$cache_dir/grub
modules_deb=$(fetch_package grub-pc-bin)
tools_deb=$(fetch_package grub-common)
key=$({ basename "$modules_deb"; basename "$tools_deb"; cat "$guest_dir/cache.sh" "$guest_dir/build-grub.sh"; } | sha256sum | cut -d' ' -f1)
if is_current "$out" "$key"; then
  exit 0
fi

work=$(mktemp -d "$cache_dir/grub.XXXXXX")
trap 'rm -rf "$work"' EXIT
dpkg -x "$modules_deb" "$work/unpacked"
dpkg -x "$tools_deb" "$work/unpacked"

cat >"$work/grub.cfg" <<'CONFIG'
serial --unit=0 --speed=115200
terminal_output serial
echo GRUB reads kernel and initramfs from the disk
linux (hd0,msdos1)/vmlinuz console=ttyS0 no_timer_check quiet loglevel=3 panic=-1 random.trust_cpu=on
initrd (hd0,msdos1)/base.cpio (hd0,msdos1)/scenario.cpio
boot
CONFIG

platform=$work/unpacked/usr/lib/grub/i386-pc
mkdir "$work/out"
cp "$platform/boot.img" "$work/out/boot.img"
"$work/unpacked/usr/bin/grub-mkimage" --directory "$platform" --format i386-pc --prefix '(hd0,msdos1)/' --config "$work/grub.cfg" \
  --output "$work/out/core.img" biosdisk part_msdos tar serial terminal echo linux boot
mark_current "$work/out" "$key"
publish "$work/out" "$out"
echo "built a boot loader from $(basename "$tools_deb" .deb)"
