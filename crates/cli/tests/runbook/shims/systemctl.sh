#!/bin/sh
# What the runbooks ask of systemd, for the units `holdfast` and `holdfast-kms`. It runs the ExecStart of the installed unit file with the
# variables of its EnvironmentFile, waits until that serves or is sealed, and ends it with SIGTERM. No event is waited for longer than systemd
# would.

verb=$1
shift
now=
if [ "$1" = --now ]; then now=yes && shift; fi
case "$verb $*" in
"daemon-reload ") name= ;;
*" holdfast") name=holdfast run=@ROOT@/run ;;
*" holdfast-kms") name=holdfast-kms run=@ROOT@/run/kms ;;
*)
    echo "this machine has no unit \`$*\`" >&2
    exit 64
    ;;
esac
unit=@ROOT@/etc/systemd/system/$name.service
mkdir -p "${run-@ROOT@/run}"

setting() { sed -n "s/^$1=//p" "$unit"; }

# Words without spaces, as those of the runbooks are.
variables() {
    file=$(setting EnvironmentFile)
    if [ -n "$file" ]; then grep -v '^#' "$file"; fi
}

is_active() { [ -e "$run/pid" ] && [ ! -s "$run/ended" ]; }

# Its parent writes how it ended at once after that. The file is there before what it says is.
wait_for_end() { until [ -s "$run/ended" ]; do sleep 0.01; done; }

start() {
    if is_active; then return; fi
    umask "$(setting UMask)"
    rm -f "$run/pid" "$run/ended" "$run/said"
    mkfifo "$run/said"
    (
        env -i PATH="$PATH" $(variables) $(setting ExecStart) >"$run/said" 2>"$run/journal" &
        echo $! >"$run/pid"
        wait $!
        echo $? >"$run/ended"
    ) </dev/null >/dev/null 2>&1 &
    # An end before that line is the end of the pipe.
    if timeout "$(setting TimeoutStartSec)" head -n 1 "$run/said" | grep -Eq '^(serving|sealed) '; then return; fi
    wait_for_end
    echo "Job for $name.service failed because the control process exited with error code." >&2
    echo "See \"systemctl status $name.service\" and \"journalctl -xeu $name.service\" for details." >&2
    exit 1
}

stop() {
    if ! is_active; then return; fi
    # The pipe is open for reading before the signal, so its end cannot be missed.
    { kill "-$1" "$(cat "$run/pid")" && timeout "$(setting TimeoutStopSec)" cat >/dev/null; } <"$run/said"
    wait_for_end
    # Stricter than systemd: a bad end is a failure of who ordered it.
    [ "$1" = KILL ] || [ "$(cat "$run/ended")" = 0 ]
}

case $verb in
daemon-reload) ;;
enable) if [ -n "$now" ]; then start; fi ;;
start) start ;;
stop) stop TERM ;;
restart) stop TERM && start ;;
reload) is_active && kill -HUP "$(cat "$run/pid")" ;;
is-active)
    if is_active; then echo active; else
        echo inactive
        exit 3
    fi
    ;;
# No runbook's: at the end of a test.
kill) stop KILL ;;
*)
    echo "this machine's systemctl does not know \`$verb\`" >&2
    exit 64
    ;;
esac
