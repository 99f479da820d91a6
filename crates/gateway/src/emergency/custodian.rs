//! What a custodian does for a request, on a machine of their own.

use crate::fault::Fault;
use crate::process;
use crate::shares::{Recipient, identities, open_text, seal_text};
use age::armor::Format;
use holdfast_core::Secret;
use holdfast_keystore::emergency::{MAX_GIVEN, SHARE_LEN};
use std::path::Path;

/// Opens those of the shares that are this identity's, and encrypts them together to the request's own key. Of each version one, or none: `of`
/// are the shares of one version each. From here on the process's memory is closed to others of its user, and never dumped.
///
/// # Errors
/// When the identity cannot be read or opens none of them, or what is inside is no share.
pub fn answer<'a>(
    of: impl Iterator<Item = Vec<&'a [u8]>>,
    identity: &Path,
    recipient: &Recipient,
) -> Result<Vec<u8>, Fault> {
    process::protect_memory();
    let identities = identities(identity)?;
    let each = || identities.iter().map(|identity| &**identity as &dyn age::Identity);
    let mut given = Secret::new(Vec::with_capacity(MAX_GIVEN));
    for sealed in of {
        let opened = sealed.iter().find_map(|sealed| open_text(sealed, each(), SHARE_LEN).ok());
        let Some(share) = opened else { continue };
        if share.len() != SHARE_LEN || given.len() + SHARE_LEN > MAX_GIVEN {
            return Err(Fault::new("what is encrypted to you is no share of an emergency copy")
                .remedy("nothing was given; look who stands between you and the gateway"));
        }
        given.expose_mut().extend_from_slice(share.expose());
    }
    if given.is_empty() {
        return Err(Fault::new(format!("`{}` opens none of the shares", identity.display())).remedy(
            "give the identity whose `age1…` line stood in `emergency.custodians` when the versions were made",
        ));
    }
    seal_text(&given, recipient, Format::Binary)
}
