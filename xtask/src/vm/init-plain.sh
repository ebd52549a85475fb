#!/bin/sh
# Process 1 of a guest without systemd: mounts what a host has, runs the work, powers off.
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
as=
if [ -d /sys/fs/selinux ]; then
    # Policy and labels first. Tests run in the domain of the daemon, and without categories:
    # containers may use its pipes then.
    load_policy -i
    setfiles -q /etc/selinux/default/contexts/files/file_contexts /etc /usr /var
    as='runcon system_u:system_r:dockerd_t:s0'
fi
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
hostname seacow-vm
ip link set lo up
for module in overlay veth bridge br_netfilter nf_tables loop tun fuse; do modprobe "$module"; done
[ -z "$as" ] || setenforce 1
$as /payload/report.sh
sync
exec busybox poweroff -f
