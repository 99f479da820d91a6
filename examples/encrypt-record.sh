#!/bin/sh
# A record that only its key and its context open. Needs a dev gateway: see README.md.
set -eu

key="records-$$"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

holdfast key create "$key" --label team=finance >/dev/null

# 1 MiB at most goes to the gateway itself, with --raw. Files of any size: without it, as age files (docs/files.md).
printf 'IBAN DE02 1203 0000 0000 2020 51' > "$work/record"
holdfast encrypt "$work/record" --raw --key "$key" --context invoice=4711 > "$work/sealed"
echo "sealed: $(cut -c1-24 "$work/sealed")…"
# sealed: SEZDAQEB…

echo "opened: $(holdfast decrypt "$work/sealed" --key "$key" --context invoice=4711)"
# opened: IBAN DE02 1203 0000 0000 2020 51

# The wrong context is refused in the same words as a wrong key or a flipped bit; exit code 6.
if holdfast decrypt "$work/sealed" --key "$key" --context invoice=4712 2> "$work/refusal"; then
  echo "opened with a wrong context" >&2
  exit 1
fi
head -n 1 "$work/refusal"
# error: the input does not verify

# Both are in the log, the refusal too. A checkpoint comes within a second.
sleep 2
holdfast audit search --key "$key" --action decrypt
#  …  developer  decrypt  records-…/1  success
#  …  developer  decrypt  records-…/1  refused: integrity
