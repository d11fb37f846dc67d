#!/bin/bash
# Builds one lab from Debian's packages: the hypervisor, a kernel, and the root file system of dom0 as a disk image.
# Nothing is booted or loaded on this machine, and no loop device is needed.
#   usage: build.sh DIR SUITE MIRROR      needs root; lab.mjs installs the packages it needs
# DIR gets: xen, vmlinuz, grub-pvh, root.img, boot.initrd, guest.initrd, fio.initrd, versions.
# The initrds have no /init: a run brings its own on a disk, so that a change of the tests needs no new lab.
set -euo pipefail
dir=$(realpath -m "$1") suite=$2 mirror=$3
mkdir -p "$dir"; cd "$dir"
root=$dir/root

# Of dom0 with systemd, into which the package for Debian is installed: what that needs.
systemd=()
case $suite in
  trixie) xen=4.20 systemd=(systemd-sysv dbus xen-utils-common python3-minimal nodejs) ;;
  bookworm) xen=4.17 ;;
  *) echo "no recipe for $suite" >&2; exit 2 ;;
esac
packages=(kmod xenstore-utils "xen-utils-$xen" qemu-system-xen qemu-utils fio iproute2 procps strace e2fsprogs busybox-static
  "${systemd[@]}")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# An apt of its own: the kernel and the hypervisor are unpacked, not installed, without touching this machine's
# package lists.
apt=$dir/apt
mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc}
echo "deb [arch=amd64 signed-by=$keyring] $mirror $suite main" >"$apt/etc/sources.list"
options=(-o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts=-
  -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Dir::State::status=/dev/null
  -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o Acquire::Retries=5)
depends() { # depends PACKAGE PATTERN: what PACKAGE depends on that looks like PATTERN
  apt-cache "${options[@]}" depends "$1" | grep -oE "$2" | head -1
}
unpack() { # unpack INTO PACKAGE ...
  local into=$1 deb; shift
  rm -rf download; mkdir -p download "$into"
  (cd download && apt-get -q "${options[@]}" download "$@")
  for deb in download/*.deb; do dpkg-deb -x "$deb" "$into"; done
  rm -rf download
}

echo "== $suite: package lists"
apt-get -q "${options[@]}" update

echo "== $suite: root file system"
rm -rf "$root"
for attempt in 1 2 3; do
  debootstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" "$suite" "$root" "$mirror" && break
  [ "$attempt" -lt 3 ] || { tail -20 "$root/debootstrap/debootstrap.log" || true; exit 1; }
done
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}

echo "== $suite: hypervisor and kernel"
unpack boot "xen-hypervisor-$xen-amd64:amd64" "$(depends linux-image-amd64:amd64 'linux-image-[0-9][^ :]*'):amd64"
# A multiboot loader needs the ELF file that is packed in it.
zcat boot/boot/xen-*-amd64.gz >xen
cp boot/boot/vmlinuz-* vmlinuz
# A boot loader that is a frontend of another ABI: it reads the kernel of a PVH guest from the guest's own disk.
unpack grub grub-xen-host:amd64
cp grub/usr/lib/grub-xen/grub-i386-xen_pvh.bin grub-pvh
modules=$(find boot -path '*/lib/modules/*/kernel' -type d | head -1)
kernel=$(basename "$(dirname "$modules")")
# What a machine without hardware never loads is most of the space.
rm -rf "$modules"/{sound,drivers/{gpu,media,infiniband,iio,staging,usb,hid,bluetooth,mmc,mtd,hwmon,platform,video,leds,net/{ethernet,wireless}}}
mkdir -p "$root/usr/lib/modules"
cp -a "$(dirname "$modules")" "$root/usr/lib/modules/"
chroot "$root" depmod "$kernel"

module_files() { # module_files MODULE ...: the files in the order in which they load
  local m
  for m in "$@"; do chroot "$root" modprobe -S "$kernel" --show-depends "$m"; done | awk '$1=="insmod" && !seen[$2]++ {print $2}'
}
skeleton() { # skeleton NAME BUSYBOX: a root for an initrd
  mkdir -p "$1.d"/{bin,mods,proc,sys,dev,tmp,run,etc,root,mnt,lab,new,usr/bin}
  cp "$2" "$1.d/bin/busybox"
}
add_modules() { # add_modules NAME MODULE ...
  local name=$1 n=10 f; shift
  for f in $(module_files "$@"); do
    case $f in
      *.xz) xz -dc "$root$f" >"$name.d/mods/$n-$(basename "$f" .xz)" ;;
      *) cp "$root$f" "$name.d/mods/$n-$(basename "$f")" ;;
    esac
    n=$((n + 1))
  done
}
add_programs() { # add_programs NAME PROGRAM ...: with the libraries they load
  local name=$1 p l; shift
  for p in "$@"; do
    cp -L "$root$p" "$name.d/usr/bin/"
    for l in $(chroot "$root" ldd "$p" | grep -o '/[^ ]*'); do mkdir -p "$name.d$(dirname "$l")"; cp -Lu "$root$l" "$name.d$l"; done
  done
}
initrd() { # initrd NAME: packs NAME.d
  (cd "$1.d" && find . | cpio -o -H newc --quiet) >"$1.initrd"
  rm -rf "$1.d"
}

echo "== $suite: initrds"
skeleton boot "$root/bin/busybox"
add_modules boot virtio_blk virtio_pci virtio_console xen-blkfront ext4 overlay
initrd boot
skeleton guest "$root/bin/busybox"
add_modules guest xen-blkfront ext4
add_programs guest /sbin/mke2fs /sbin/e2fsck /sbin/blkdiscard
ln -s mke2fs guest.d/usr/bin/mkfs.ext4
initrd guest
# Most of fio is the libraries of storage that no guest here has; only guests that use it carry it.
mkdir -p fio.d/usr/bin
add_programs fio /usr/bin/fio
initrd fio

echo "== $suite: disk image"
mkdir -p "$root"/{lab,var/lib/xen,var/log/xen}
echo xen-lab >"$root/etc/hostname"
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" root.img "$(($(du -sm "$root" | cut -f1) * 6 / 5 + 128))M"
{
  echo "suite=$suite"
  echo "xen=$(chroot "$root" dpkg-query -W -f '${Version}' "xen-utils-$xen")"
  echo "linux=$kernel"
  echo "qemu=$(chroot "$root" dpkg-query -W -f '${Version}' qemu-system-xen)"
  echo "fio=$(chroot "$root" dpkg-query -W -f '${Version}' fio)"
} >versions
rm -rf "$root" boot grub apt
