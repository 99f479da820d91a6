//! Curves as CKA_EC_PARAMS names them.

/// DER of the named curves' object identifiers (RFC 5480 §2.1.1.1, RFC 8410 §3).
pub(in crate::pkcs11) const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// P-384.
pub(in crate::pkcs11) const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// P-521.
pub(in crate::pkcs11) const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
/// Ed25519.
pub(in crate::pkcs11) const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// X25519.
pub(in crate::pkcs11) const X25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x6e];
/// Ed25519 as a PrintableString (PKCS#11 3.0 §2.3.5).
pub(in crate::pkcs11) const ED25519_NAMED: &[u8] = b"\x13\x0cedwards25519";
/// X25519 as a PrintableString (PKCS#11 3.0 §2.3.7).
pub(in crate::pkcs11) const X25519_NAMED: &[u8] = b"\x13\x0acurve25519";

/// What people call them.
pub(in crate::pkcs11) const NAMED: [(&[u8], &str); 7] = [
    (P256, "P-256"),
    (P384, "P-384"),
    (P521, "P-521"),
    (ED25519, "Ed25519"),
    (X25519, "X25519"),
    (ED25519_NAMED, "Ed25519"),
    (X25519_NAMED, "X25519"),
];
