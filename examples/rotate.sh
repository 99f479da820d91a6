#!/bin/sh
# Rotation: new work takes the new version, old data still opens, and what must move is rewrapped. Needs a dev gateway: see README.md.
set -eu

key="rotating-$$"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

holdfast key create "$key" >/dev/null
printf 'made under version 1' > "$work/record"
holdfast encrypt "$work/record" --raw --key "$key" > "$work/one"

holdfast key rotate "$key" >/dev/null
echo "opened: $(holdfast decrypt "$work/one" --key "$key")"
# opened: made under version 1

# Decrypted and encrypted again inside the key store; the plaintext leaves it nowhere.
holdfast rewrap "$work/one" --key "$key" > "$work/two"
version() { base64 -d "$1" | od -An -j22 -N4 -tu1 | tr -d ' '; }
echo "versions: $(version "$work/one") and $(version "$work/two")"
# versions: 0001 and 0002
echo "opened: $(holdfast decrypt "$work/two" --key "$key")"
# opened: made under version 1

# And the stop: from its answer on, nothing of the key leaves, in whatever version.
holdfast key suspend "$key" >/dev/null
if holdfast decrypt "$work/two" --key "$key" 2> "$work/refusal" > /dev/null; then
  echo "a suspended key was used" >&2
  exit 1
fi
head -n 2 "$work/refusal"
# error: key `rotating-…` is suspended
# help: ask a custodian to run `holdfast key resume rotating-…`
holdfast key resume "$key" >/dev/null
