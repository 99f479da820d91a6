#!/bin/sh
# What the gateway, or the plugin, wrote since its last start.
lines=10
run=@ROOT@/run
while [ $# -gt 0 ]; do
    case $1 in
    -n) lines=$2 && shift ;;
    -u)
        if [ "$2" = holdfast-kms ]; then run=@ROOT@/run/kms; fi
        shift
        ;;
    -o) shift ;;
    *)
        echo "this machine's journalctl does not know \`$1\`" >&2
        exit 64
        ;;
    esac
    shift
done
tail -n "$lines" "$run/journal"
