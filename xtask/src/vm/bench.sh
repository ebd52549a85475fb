# Starts of containers by seacow and by dockerd, interleaved, isolated by pauses; medians in ms.
mount -o remount,size=2G /tmp 2>/dev/null
root=/tmp/bb
mkdir -p $root/bin && cp /bin/busybox $root/bin/busybox
for applet in sh true sleep cat; do ln -sf busybox $root/bin/$applet; done
tar -cf /tmp/bb.tar -C $root .

dockerd --host unix:///run/peer.sock --data-root /var/lib/peer --exec-root /run/peer \
    --pidfile /run/peer.pid > /run/peer.log 2>&1 &
/payload/dist/seacowd --host unix:///run/ours.sock --data-root /var/lib/ours --exec-root /run/ours \
    --pidfile /run/ours.pid > /run/ours.log 2>&1 &
seacow="/payload/dist/seacow -H unix:///run/ours.sock"
docker="/payload/docker -H unix:///run/peer.sock"
for client in "$seacow" "$docker"; do
    for _ in $(seq 300); do $client version > /dev/null 2>&1 && break; sleep 0.5; done
    $client import /tmp/bb.tar bb > /dev/null || { cat /run/peer.log /run/ours.log; exit 1; }
done
$docker version --format 'dockerd {{.Server.Version}}'
$docker info --format 'dockerd: cgroup driver {{.CgroupDriver}}, version {{.CgroupVersion}}'
$seacow info --format 'seacowd: cgroup driver {{.CgroupDriver}}, version {{.CgroupVersion}}'

# EPOCHREALTIME costs no process, which would take longer than what is measured.
now() { echo "${EPOCHREALTIME/./}"; }
one() {
    local name=$1; shift
    local start=${EPOCHREALTIME/./}
    "$@" > /dev/null || { echo "$name: failed"; exit 1; }
    local end=${EPOCHREALTIME/./}
    [ "$round" -eq 0 ] || echo $((end - start)) >> "/tmp/times.$name"
}
for round in $(seq 0 "$SEACOW_ROUNDS"); do
    sleep 3; one seacow-bridge $seacow run --rm bb true
    sleep 3; one seacow-none $seacow run --rm --network none bb true
    sleep 3; one docker-bridge $docker run --rm bb true
    sleep 3; one docker-none $docker run --rm --network none bb true
done
median() { sort -n "/tmp/times.$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
echo "run --rm, median of $SEACOW_ROUNDS isolated starts, interleaved, ms (emulated processor):"
for name in seacow-bridge docker-bridge seacow-none docker-none; do
    median $name | awk -v n=$name '{ printf "  %-16s %8.1f\n", n, $1 / 1000 }'
done
for network in bridge none; do
    echo "$(median docker-$network) $(median seacow-$network)" |
        awk -v n=$network '{ printf "  %s: seacow is %.1fx dockerd\n", n, $1 / $2 }'
done
kill "$(cat /run/ours.pid)" "$(cat /run/peer.pid)"
exit 0
