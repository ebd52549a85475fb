#!/bin/bash
# Runs the comparisons with docker against a real dockerd.
#
# The engine is Debian's docker.io, fetched by apt and unpacked into a directory (never installed:
# its postinst would start it). It runs in mount and network namespaces of its own, with data,
# socket and pid file of its own, and is ended by its pid. Needs root.
set -euo pipefail

work=${SEACOW_ORACLE_DIR:-/var/tmp/seacow-oracle}
name=seacow-oracle-cli-$$
socket=/run/$name.sock
here=$(cd "$(dirname "$0")" && pwd)

[ "$(id -u)" = 0 ] || { echo "SKIPPED: the oracle needs root" >&2; exit 0; }
mkdir -p "$work"
cd "$work"
for package in docker.io containerd runc tini busybox-static; do
    ls "$package"_*.deb >/dev/null 2>&1 || apt-get download "$package"
    [ -e "unpacked-$package" ] || { dpkg -x "$package"_*.deb root; touch "unpacked-$package"; }
done
# For the daemon alone: the client to compare with is the one on the PATH.
daemon_path=$work/root/usr/sbin:$work/root/usr/bin:$PATH

cleanup() {
    if [ -n "${pid:-}" ]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    rm -rf "/var/lib/$name" "/run/$name" "$socket" "/run/$name.pid"
}
trap cleanup EXIT

PATH=$daemon_path unshare -m -n --propagation private bash -c "ip link set lo up; exec dockerd \
    --data-root /var/lib/$name --exec-root /run/$name -p /run/$name.pid -H unix://$socket \
    --bridge=none --iptables=false" >"$work/dockerd.log" 2>&1 &
pid=$!
for _ in $(seq 200); do
    [ -S "$socket" ] && docker -H "unix://$socket" ps >/dev/null 2>&1 && break
    kill -0 "$pid" || { tail "$work/dockerd.log" >&2; exit 1; }
    sleep 0.1
done

rootfs=$(mktemp -d)
mkdir -p "$rootfs"/{bin,etc,tmp,dev,proc,sys,root}
cp "$work/root/bin/busybox" "$rootfs/bin/"
for applet in $("$work/root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$rootfs/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$rootfs/etc/passwd"
tar -C "$rootfs" -c . | docker -H "unix://$socket" import -c 'CMD ["sh"]' - bb >/dev/null
rm -rf "$rootfs"
docker -H "unix://$socket" run -d --name web bb sh -c 'echo one; sleep 100000' >/dev/null

cd "$here/../../.."
SEACOW_ORACLE_HOST=unix://$socket cargo test -p seacow-cli --test oracle --test terminal -- --test-threads=1
docker -H "unix://$socket" rm -f web >/dev/null
