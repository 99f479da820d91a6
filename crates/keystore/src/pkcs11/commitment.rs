//! The fixed input by which a secret key in a token commits. The token is also asked for it again when it is in doubt whether it still works:
//! the same nonce with the same text gives nothing away that was not there.

use super::message::NONCE_LEN;

/// What is encrypted, wrapped or authenticated.
pub(super) const TEXT: &[u8; 40] = b"holdfast/key-commitment/v1: in the token";
/// Under a nonce that no random one will meet.
pub(super) const NONCE: [u8; NONCE_LEN] = *b"hf-commit-v1";
/// With this as associated data.
pub(super) use crate::software::material::COMMITMENT_DOMAIN as DOMAIN;
