#!/bin/sh
# Another system's key kept under ours, and a data key for bulk data. Needs a dev gateway: see README.md.
set -eu

kek="kek-$$"
data="data-$$"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077

# A database's key, say, that must lie in its configuration.
openssl rand 32 > "$work/database.key"
holdfast key create "$kek" --algorithm aes-256-gcm-siv --purpose wrap >/dev/null
holdfast wrap "$work/database.key" --key "$kek" --context system=database -o "$work/database.key.wrapped"
holdfast unwrap "$work/database.key.wrapped" --key "$kek" --context system=database -o "$work/again"
cmp "$work/database.key" "$work/again" && echo "wrapped and unwrapped"
# wrapped and unwrapped

# What was wrapped is not opened by decrypting: the purpose of a key is fixed.
if holdfast decrypt "$work/database.key.wrapped" --key "$kek" --context system=database 2> "$work/refusal" > /dev/null; then
  echo "a wrapped key was decrypted" >&2
  exit 1
fi
head -n 1 "$work/refusal"
# error: key `kek-…` was created to wrap, not to decrypt

# A data key: in clear for now, wrapped to be kept beside the data. Once handed out, the clear one cannot be called back.
holdfast key create "$data" >/dev/null
holdfast datakey --key "$data" --context table=invoices --plaintext "$work/dek" -o "$work/dek.wrapped"
holdfast decrypt "$work/dek.wrapped" --key "$data" --context table=invoices -o "$work/dek.again"
cmp "$work/dek" "$work/dek.again" && echo "the data key opens again"
# the data key opens again
