#!/usr/bin/env bash
# Build a Debian 12 box from Debian's packages, as root: box.sh FOLDER
#
# FOLDER gets slackwater.box (for Vagrant and libvirt), and what boots the same disk in QEMU without a boot loader:
# box.img, vmlinuz, initrd.img, and key, which is let in as the user vagrant. Its guest needs no network.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=$PATH:/usr/sbin:/sbin

SUITE=bookworm
DISK_SIZE=4G
PACKAGES=linux-image-cloud-amd64,grub-pc,initramfs-tools,zstd,systemd-sysv,dbus,libpam-systemd,udev,kmod,procps,iproute2,nftables
PACKAGES+=,openssh-server,sudo,rsync,ca-certificates,make,python3,python3-venv # the last: what an installation needs
PACKAGES+=,gcc,libc6-dev,rt-tests,iperf3 # and what tests/kernel needs

# ---- inside mmdebstrap: called by its hooks with the new root ----

# What the kernel needs to find its disk, whoever emulates the machine; a list, since here it runs on another.
initramfs() {
	mkdir -p "$1/etc/initramfs-tools/conf.d"
	printf 'MODULES=list\nCOMPRESS=zstd\n' >"$1/etc/initramfs-tools/conf.d/box"
	printf '%s\n' virtio_pci virtio_blk virtio_scsi virtio_net sd_mod ahci ext4 >"$1/etc/initramfs-tools/modules"
}

customize() {
	local root=$1 key=$2
	echo slackwater >"$root/etc/hostname"
	printf '127.0.0.1 localhost\n127.0.1.1 slackwater\n' >"$root/etc/hosts"
	echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
	: >"$root/etc/machine-id"
	# Not the mirror of the machine that built it; it is for guests without a way out.
	: >"$root/etc/apt/sources.list"
	rm -f "$root"/var/lib/apt/lists/*_dists_* "$root"/var/cache/apt/*.bin

	# Vagrant's conventions: the user, its key, sudo without a password.
	chroot "$root" useradd --create-home --shell /bin/bash vagrant
	echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
	install -D -m 600 "$key.pub" "$root/home/vagrant/.ssh/authorized_keys"
	chmod 700 "$root/home/vagrant/.ssh"
	chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
	echo 'UseDNS no' >"$root/etc/ssh/sshd_config.d/box.conf"
	rm -f "$root"/etc/ssh/ssh_host_*_key* # each machine makes its own
	cat >"$root/etc/systemd/system/ssh-host-key.service" <<-'UNIT'
		[Unit]
		Before=ssh.service
		ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
		[Service]
		Type=oneshot
		ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
		StandardError=journal+console
		[Install]
		WantedBy=ssh.service
	UNIT

	cat >"$root/etc/systemd/network/80-dhcp.network" <<-'NETWORK'
		[Match]
		Name=en* eth*
		[Network]
		DHCP=yes
		LinkLocalAddressing=no
		IPv6AcceptRA=no
		[DHCPv4]
		ClientIdentifier=mac
	NETWORK
	chroot "$root" systemctl --quiet enable systemd-networkd ssh ssh-host-key serial-getty@ttyS0
	# Nothing that works by itself at some time, or waits for a network.
	chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service \
		apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service

	cat >"$root/etc/default/grub" <<-'GRUB'
		GRUB_TERMINAL="console serial" # graphics hang where there is no display
		GRUB_TIMEOUT=0
		GRUB_RECORDFAIL_TIMEOUT=0
		GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0 net.ifnames=0"
		GRUB_DISABLE_LINUX_UUID=true
		GRUB_DISABLE_OS_PROBER=true
	GRUB
}

case ${1:-} in
initramfs | customize)
	"$@"
	exit
	;;
esac

# ---- on the host ----

fail() {
	echo "box.sh: $*" >&2
	exit 1
}

[ $# = 1 ] || fail "usage: box.sh FOLDER"
[ "$(id -u)" = 0 ] || fail "a file system is made and mounted: run it as root"
for program in mmdebstrap sfdisk partx mkfs.ext4 qemu-img ssh-keygen; do
	command -v $program >/dev/null || fail "no $program: make box-packages"
done
mkdir -p "$1"
out=$(realpath "$1") self=$(realpath "$0")

# The mirrors that this machine's apt is configured for.
mirrors=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u)
main=$(grep -m 1 '/debian/*$' <<<"$mirrors") || fail "apt has no Debian mirror: add one to its sources"
security=$(grep -m 1 '/debian-security/*$' <<<"$mirrors") || security=

rm -f "$out"/*
ssh-keygen -q -t ed25519 -N '' -C vagrant -f "$out/key"

disk=$out/disk.raw root=$(mktemp -d) loop=
clean_up() {
	mountpoint -q "$root" && umount --recursive "$root"
	[ -z "$loop" ] || { partx --delete "$loop" && losetup --detach "$loop"; } || true
	rmdir "$root"
	rm -f "$disk"
}
trap clean_up EXIT
truncate --size $DISK_SIZE "$disk"
echo 'start=2048, type=83, bootable' | sfdisk --quiet --label dos "$disk"
loop=$(losetup --find --show "$disk")
partx --add "$loop" # not losetup --partscan: not each kernel reads partition tables
for _ in {1..50}; do [ -b "${loop}p1" ] && break || sleep 0.1; done
mkfs.ext4 -q -L root "${loop}p1"
mount -o nobarrier "${loop}p1" "$root" # what dpkg syncs need not reach this machine's disk each time

mmdebstrap --quiet --mode=root --variant=minbase --include=$PACKAGES --aptopt='Apt::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--essential-hook="'$self' initramfs \"\$1\"" --customize-hook="'$self' customize \"\$1\" '$out/key'" \
	$SUITE "$root" "deb $main $SUITE main" ${security:+"deb $security $SUITE-security main"}

for folder in dev proc sys; do mount --bind /$folder "$root/$folder"; done
said=$(chroot "$root" grub-install --target=i386-pc --modules='part_msdos ext2' "$loop" 2>&1) || fail "grub-install: $said"
said=$(chroot "$root" update-grub 2>&1) || fail "update-grub: $said"
sed -i "s#root=[^ ]*#root=LABEL=root#g" "$root/boot/grub/grub.cfg" # it names this machine's loop device
for folder in dev proc sys; do umount "$root/$folder"; done
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd.img"
umount "$root"

qemu-img convert -c -o compression_type=zstd -O qcow2 "$disk" "$out/box.img"
echo "{\"provider\": \"libvirt\", \"format\": \"qcow2\", \"virtual_size\": ${DISK_SIZE%G}}" >"$out/metadata.json"
cat >"$out/Vagrantfile" <<'BOX'
Vagrant.configure("2") { |config| config.ssh.private_key_path = File.join(__dir__, "key") }
BOX
tar -C "$out" -cf "$out/slackwater.box" metadata.json Vagrantfile box.img key
