#!/bin/sh
# First process of the runtime's own mount and pid namespace.
#
# usage: supervisor.sh CGROUP DIRECTORY
#
# CGROUP is the last part of DIRECTORY, a name that ends in "-" and something unique.
# Arranges the mounts that containerd needs, then obeys one command per line on standard
# input: "start" starts containerd, "signal NAME" signals it and waits for its end. Each is
# answered by one line on standard output. When standard input ends, because the test closed it or
# because the test is dead, everything is killed and removed: this is why it is the first
# process of a pid namespace, and why cleaning up is not left to the test.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

cgroup=$1
directory=$2
daemon=
# Fixed places that containerd's shims (/run/containerd) and its CNI library (/var/lib/cni)
# write to whatever the configuration says.
covered='/run/containerd /var/lib/cni'
marker=.made-by-minionet-tests

# Hides a fixed place behind a file system of our own. Where it did not exist it is made,
# marked, and removed again by whichever supervisor is the last to end.
cover() {
    if mkdir -p "${1%/*}" && mkdir "$1" 2>/dev/null; then
        : >"$1/$marker"
    fi
    mount -t tmpfs -o mode=0755 tmpfs "$1"
}

uncover() {
    umount -l "$1"
    if flock --exclusive --nonblock 9 && [ -e "$1/$marker" ]; then
        rm "$1/$marker"
        rmdir "$1"
    fi
}

# Mounts the hierarchies afresh: all of version 1 where there are any, else version 2, never
# both, because crun refuses the hybrid layout.
mount_cgroups() {
    mount -t tmpfs -o mode=0755 tmpfs /sys/fs/cgroup
    version=2
    while IFS=: read -r _ controllers _; do
        [ -n "$controllers" ] || continue
        version=1
        name=${controllers#name=}
        mkdir "/sys/fs/cgroup/$name"
        case $controllers in
        name=*) mount -t cgroup -o "none,$controllers" cgroup "/sys/fs/cgroup/$name" ;;
        *) mount -t cgroup -o "$controllers" cgroup "/sys/fs/cgroup/$name" ;;
        esac
        # A hierarchy of several controllers is also looked for under each single name.
        for alias in $(echo "$name" | tr , ' '); do
            [ -e "/sys/fs/cgroup/$alias" ] || ln -s "$name" "/sys/fs/cgroup/$alias"
        done
    done </proc/self/cgroup
    if [ "$version" = 2 ]; then
        umount /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
}

# Makes our cgroup in one hierarchy, with a lock that lives as long as we do, and removes
# what supervisors left that were killed: cgroups without a lock, and their directories.
# The lock of the hierarchy's root keeps others from sweeping between the two steps.
claim_cgroup() {
    root=/sys/fs/cgroup
    [ "$version" = 2 ] || root=/sys/fs/cgroup/$name
    exec 7<"$root"
    flock --exclusive 7
    for stale in "$root/${cgroup%-*}"-*; do
        if [ -d "$stale" ] && flock --exclusive --nonblock "$stale" true; then
            remove_cgroups "${stale##*/}" || :
            rm -rf --one-file-system "${directory%/*}/${stale##*/}"
        fi
    done
    mkdir "$root/$cgroup"
    exec 8<"$root/$cgroup"
    flock --shared 8
    exec 7<&-
}

# Removes a cgroup from every hierarchy; one can be busy until the last process is gone.
remove_cgroups() {
    for place in "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1"; do
        tries=0
        while [ -d "$place" ]; do
            find "$place" -depth -type d -exec rmdir {} + 2>/dev/null || :
            tries=$((tries + 1))
            if [ "$tries" -gt 5000 ]; then
                echo "cannot remove the cgroup $place" >&2
                return 1
            fi
            [ ! -d "$place" ] || sleep 0.01
        done
    done
}

unmount_below() {
    while read -r _ point _; do
        case $point in
        "$1"/*) umount -l "$point" 2>/dev/null || : ;;
        esac
    done </proc/self/mounts
}

clean_up() {
    trap '' PIPE
    result=0
    kill -s KILL -- -1 2>/dev/null || :
    wait
    remove_cgroups "$cgroup" || result=1
    unmount_below "$directory"
    for place in $covered; do
        uncover "$place" || result=1
    done
    rm -rf --one-file-system "$directory" || result=1
    exit "$result"
}

# Shared while a supervisor uses the fixed places, exclusive to remove them.
exec 9</run
flock --shared 9
for place in $covered; do
    cover "$place"
done
mount_cgroups
claim_cgroup
trap clean_up EXIT
echo ready

while read -r verb argument; do
    case $verb in
    start)
        containerd --config "$directory/config.toml" \
            >>"$directory/containerd.log" 2>&1 </dev/null 8<&- 9<&- &
        daemon=$!
        ;;
    signal)
        kill -s "$argument" "$daemon" 2>/dev/null || :
        wait "$daemon" || :
        ;;
    esac
    echo "$verb"
done
