# Deferred teardown takes a moment, more so emulated; then nothing of ours may be left.
leftovers() {
    # Where the runtime puts containers whose bundle names no cgroup stays, empty, as it does with runc.
    find /sys/fs/cgroup -mindepth 1 -type d -name '*seacow*' ! -name 'seacow-vm.service' ! \( -path /sys/fs/cgroup/seacow -links 2 \)
    ip -o link | grep -E ': (seacow|sc[0-9a-f]+)' || true
    grep seacow /proc/self/mountinfo || true
    pgrep -l -f 'seacowd|seacow-shim' || true
    [ -d /run/systemd/system ] && systemctl --no-legend --plain --all list-units 'seacow-*.scope'
}
for _ in $(seq 100); do
    [ -z "$(leftovers)" ] && break
    sleep 0.3
done
if [ -n "$(leftovers)" ]; then
    echo "== left behind"
    leftovers
    rc=1
fi
