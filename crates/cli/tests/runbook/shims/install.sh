#!/bin/sh
# The system's `install` without owner and group.
skip=
for word; do
    shift
    if [ -n "$skip" ]; then
        skip=
        continue
    fi
    case $word in
    -o | -g) skip=yes ;;
    *) set -- "$@" "$word" ;;
    esac
done
exec /usr/bin/install "$@"
