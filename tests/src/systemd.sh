#!/bin/sh
# Starts a real systemd in namespaces of its own, inside those of a host of the testbed:
# systemd.sh start NAME UNITS, with a directory of units that are all that it has; the unit
# first.target is started.  systemd.sh clean NAME removes the control groups afterwards, and
# systemd.sh probe NAME fails where none can be made.
set -eu
action=$1 name=$2

# Control groups: the hierarchy of systemd where the machine has those of version 1.
hierarchy() {
  if grep -qv '^0::' /proc/self/cgroup; then
    mount -t cgroup -o none,name=systemd cgroup "$1"
  else
    mount -t cgroup2 cgroup2 "$1"
  fi
}

case $action in
probe)
  directory=$(mktemp -d)
  trap 'umount "$directory" 2>/dev/null; rmdir "$directory"' EXIT
  hierarchy "$directory"
  rmdir "$(mktemp -d "$directory/$name-XXXXXX")"
  ;;
start)
  mkdir -p /run/groups
  hierarchy /run/groups
  # What a run left that was killed before it could clean up.
  find /run/groups -maxdepth 1 -name 'minionet-test-*' -mmin +60 -exec find {} -depth -type d -exec rmdir {} \; \; 2>/dev/null || true
  mkdir "/run/groups/$name"
  echo $$ >"/run/groups/$name/cgroup.procs"
  umount /run/groups
  rmdir /run/groups
  exec unshare --pid --fork --kill-child --cgroup --ipc --uts --mount --propagation slave sh "$0" inside "$name" "$3"
  ;;
inside)
  # Services get directories of their own in these two, which nobody removes when systemd is killed:
  # they are empty here, but for the directories that are there already.
  mkdir -p /run/before
  for directory in /tmp /var/tmp; do
    mount --rbind "$directory" /run/before
    mount -t tmpfs -o mode=1777 tmpfs "$directory"
    for entry in /run/before/*/; do
      [ -d "$entry" ] || continue
      mkdir "$directory/${entry#/run/before/}"
      mount --rbind "$entry" "$directory/${entry#/run/before/}"
    done
    umount --lazy /run/before
  done
  rmdir /run/before
  # As on a machine that systemd started: what is mounted on the host is seen by its services.
  mount --make-rshared /
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /sys/fs/cgroup
  if grep -qv '^0::' /proc/self/cgroup; then
    mkdir /sys/fs/cgroup/systemd
    hierarchy /sys/fs/cgroup/systemd
  else
    hierarchy /sys/fs/cgroup
  fi
  mkdir -p /run/units
  cp "$3"/* /run/units
  # Nothing of this machine's own is started: no unit and no generator but ours.
  for directory in /lib/systemd/system-generators /lib/systemd/system; do
    mount -t tmpfs tmpfs "$directory"
  done
  cp /run/units/* /lib/systemd/system
  export container=other
  exec /lib/systemd/systemd --system --unit=first.target --log-target=console --show-status=no
  ;;
clean)
  mkdir -p /run/groups
  hierarchy /run/groups
  find "/run/groups/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  gone=0
  [ -e "/run/groups/$name" ] || gone=1
  umount /run/groups
  rmdir /run/groups
  [ $gone = 1 ]
  ;;
esac
