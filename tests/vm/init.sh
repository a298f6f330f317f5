#!/bin/busybox sh
# Process 1 of a guest. Kernel arguments: vm.job=FILE (below /results), vm.tree=PATH, vm.venv=PATH, vm.modules=PATH;
# vm.cgroups=v1 or v2; vm.tty=DEVICE for a shell. The job's output and status go to /results, which is a folder of the host.
/bin/busybox mkdir -p /bin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod "$module"; done
argument() { sed -n "s/.*\bvm\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
cgroups=$(argument cgroups)

# What the kernel asks for by itself, such as a qdisc's module, is loaded as on any host.
mkdir /sbin
printf '#!/bin/sh\nexec chroot /root /sbin/modprobe "$@"\n' >/sbin/modprobe
chmod +x /sbin/modprobe

if [ -z "$(argument tree)" ]; then # only to see whether a guest lives at all
	echo "guest: alive" >/dev/ttyS0
	poweroff -f
fi

# Not cached: what the host has read of it survives a panic.
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none results /results
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
mount -t tmpfs memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /root
for folder in proc sys dev; do
	mkdir -p /root/$folder
	mount --move /$folder /root/$folder
done
mkdir -p /root/tmp /root/dev/shm /root/dev/pts
for folder in run tmp dev/shm; do mount -t tmpfs tmpfs /root/$folder; done
mount -t devpts devpts /root/dev/pts
if [ "$cgroups" = v1 ]; then
	mount -t tmpfs tmpfs /root/sys/fs/cgroup
	for controller in cpu cpuacct cpuset freezer memory blkio net_cls perf_event; do
		mkdir /root/sys/fs/cgroup/$controller
		mount -t cgroup -o $controller cgroup /root/sys/fs/cgroup/$controller
	done
else
	mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
fi
mount -t tracefs tracefs /root/sys/kernel/tracing
mount -t bpf bpf /root/sys/fs/bpf
mount -t securityfs securityfs /root/sys/kernel/security
ip link set lo up

mkdir /root/run/results
mount --bind /results /root/run/results
cmdline=$(cat /root/proc/cmdline)
argument() { echo "$cmdline" | sed -n "s/.*\bvm\.$1=\([^ ]*\).*/\1/p"; }
tree=$(argument tree) venv=$(argument venv)
mkdir -p /root/lib/modules
mount --bind "/host$(argument modules)" /root/lib/modules
# The copy of the tree lies where the tree is on the host; the virtual environment is the host's own, at its place.
mkdir -p "/root$tree"
mount --bind /tree "/root$tree"
mkdir -p "/root$venv"
mount --bind "/host$venv" "/root$venv"

echo "guest: the job begins" >/root/dev/kmsg
if [ -n "$(argument tty)" ]; then
	setsid cttyhack chroot /root /run/results/job <"/root/dev/$(argument tty)" >"/root/dev/$(argument tty)" 2>&1
else
	chroot /root /run/results/job </root/dev/null >/results/output 2>&1
fi
echo $? >/results/status
echo "guest: the job has ended" >/root/dev/kmsg
poweroff -f
