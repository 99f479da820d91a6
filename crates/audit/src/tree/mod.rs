//! The trees: durable entries become tiles, tiles a root, the root a signed checkpoint.

pub(crate) mod board;
pub(crate) mod bundle;
mod edge;
pub(crate) mod grow;
mod names;
mod openings;
pub(crate) mod tiler;

pub(crate) use edge::Edge;
pub use openings::Openings;
