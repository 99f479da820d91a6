//! The futures that leave this crate.

use std::pin::Pin;

/// A future behind a pointer, so that its code is compiled here and once. The body of an `async fn` is compiled by whoever polls it: the
/// command line and each of its tests would compile pipeline and HTTP server again.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
