#!/bin/sh
# Becomes systemd with one more unit, which runs the work and powers off.
cat > /etc/systemd/system/seacow-vm.service <<'UNIT'
[Unit]
Description=The work of this virtual machine
After=multi-user.target dbus.service

[Service]
Type=oneshot
# What the work starts is its own business: containers must not count as ours.
Delegate=yes
KillMode=process
TasksMax=infinity
LimitNOFILE=1048576
Environment=HOME=/root
ExecStartPre=-/sbin/modprobe -a overlay veth bridge br_netfilter nf_tables loop tun fuse
ExecStart=/payload/report.sh
ExecStopPost=/bin/systemctl poweroff --force --force
UNIT
mkdir -p /etc/systemd/system/graphical.target.wants
ln -sf ../seacow-vm.service /etc/systemd/system/graphical.target.wants/
groupadd --system seacow
exec /sbin/init
