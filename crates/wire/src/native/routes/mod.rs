//! The table of routes: one literal an endpoint. The router, the decoder's limits and the API document all come from it.

mod administration;
mod keys;

use super::route::Route;
use holdfast_core::operation::MAX_INPUT;

/// The most bytes of one use of a key: two fields of [`MAX_INPUT`] in base64, and a context.
pub const LIMIT_USE: usize = 2 * MAX_INPUT.div_ceil(3) * 4 + LIMIT_SMALL;
/// The most bytes of a batch.
pub const LIMIT_BATCH: usize = 8 << 20;
/// The most bytes of a request that changes records.
pub const LIMIT_SMALL: usize = 64 << 10;
/// The most bytes of a share of the root key.
pub const LIMIT_SHARE: usize = 12 << 10;
/// The most bytes of a request with a policy or a revocation list.
pub const LIMIT_DOCUMENT: usize = 4 << 20;

/// Every route, by area.
pub const ROUTES: [&[Route]; 2] = [keys::ROUTES, administration::ROUTES];

/// Every route.
pub fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.into_iter().flatten()
}
