//! Backups of the whole gateway: what is in one, how it is written, how a gateway comes back from it.
//!
//! A backup is a tar archive, encrypted with age so that it can be looked into without Holdfast: to a key of its own whose shares custodians
//! have ([`Opening`]), or to recipients, any one of whom opens it. `docs/operate/backup.md` lists what is in it.

mod bundle;
mod envelope;
mod key_archive;
mod opening;
pub mod proof;
mod record;
mod restore;
mod since;
mod turn;
mod write;

pub use bundle::Manifest;
pub use key_archive::KeyContent;
pub use opening::{Found, Opening, OwnShare, Readable, open_for_anyone};
pub use record::{Recorded, Summed};
pub use restore::{Copied, Summary, Unpacked, unpack};
pub use since::{FirstOf, Since, Stop, Written};
pub use write::{Backups, Readers};
