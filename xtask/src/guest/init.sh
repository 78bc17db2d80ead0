#!/bin/sh
# The first process of the guest: mounts, control groups of version 2 only, the suite, its exit code, the end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
[ -e /proc/self ] || mount -t proc -o nosuid,nodev,noexec proc /proc
mountpoint -q /sys || mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mountpoint -q /run || mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
# A group with processes of its own cannot have controllers for its children.
mkdir /sys/fs/cgroup/init
echo 1 > /sys/fs/cgroup/init/cgroup.procs
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
done
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
mount --make-rshared /
hostname guest
echo '127.0.0.1 localhost guest' > /etc/hosts
echo 'nameserver 10.0.2.3' > /etc/resolv.conf
ip link set lo up
echo "guest: kernel $(uname -r), up $(cut -d' ' -f1 /proc/uptime) s, controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
# A session of its own: the console becomes nobody's controlling terminal.
setsid -w sh /payload/command < /dev/null
echo "guest: exit $?"
sync
echo b > /proc/sysrq-trigger
sleep 60
