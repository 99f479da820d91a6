//! Backups of the whole gateway: what is in one, how it is written, how a gateway comes back from it.
//!
//! A backup is an age v1 file for the recipients that the configuration names, with a tar archive inside, so that it can be looked into
//! without Holdfast: `age -d -i KEY backup.age | tar t`. `docs/operate/backup.md` lists what is in it.

mod bundle;
mod restore;
mod since;
mod write;

pub use bundle::Manifest;
pub use restore::{Copied, Source, Summary, Unpacked, unpack};
pub use since::{FirstOf, Since, Stop, Written};
pub use write::{Backups, Recipients};
