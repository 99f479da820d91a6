#!/bin/sh
# What the gateway wrote since its last start.
lines=10
while [ $# -gt 0 ]; do
    case $1 in
    -n) lines=$2 && shift ;;
    -u | -o) shift ;;
    *)
        echo "this machine's journalctl does not know \`$1\`" >&2
        exit 64
        ;;
    esac
    shift
done
tail -n "$lines" @ROOT@/run/journal
