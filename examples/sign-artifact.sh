#!/bin/sh
# A release signed by a key that never leaves the gateway, verified by anybody with openssl. Needs a dev gateway: see README.md.
set -eu

key="release-$$"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

holdfast key create "$key" --algorithm ecdsa-p256 >/dev/null
holdfast key public "$key" > "$work/release.pub"

# Of a large artifact only the digest travels.
head -c 5000000 /dev/urandom > "$work/artifact.tar"
openssl dgst -sha256 -binary "$work/artifact.tar" > "$work/artifact.sha256"
holdfast sign "$work/artifact.sha256" --digest --key "$key" -o "$work/artifact.sig"

# Whoever has the public key needs no Holdfast.
openssl dgst -sha256 -verify "$work/release.pub" -signature "$work/artifact.sig" "$work/artifact.tar"
# Verified OK

# A changed artifact is refused.
printf x >> "$work/artifact.tar"
if openssl dgst -sha256 -verify "$work/release.pub" -signature "$work/artifact.sig" "$work/artifact.tar"; then
  echo "a changed artifact was accepted" >&2
  exit 1
fi
# Verification failure

# The signature's SHA-256 stands in its event: whoever holds a signature finds who made it, and when.
sleep 2
digest=$(openssl dgst -sha256 -r "$work/artifact.sig" | cut -d' ' -f1)
holdfast audit search --key "$key" --action sign --json | grep -c "$digest"
# 1
