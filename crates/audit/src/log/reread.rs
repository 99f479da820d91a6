//! The write-ahead file read once more while it is written.

use super::Log;
use crate::refusal::Refusal;
use crate::tree::tiler::{Cursor, Reader};

impl Log {
    /// Reads every durable batch that the write-ahead file still holds, as the next start would. `pace` is told of each one's bytes
    /// and ends the reading with `false`. Blocks, and holds up nothing else.
    ///
    /// # Errors
    /// A [`Refusal`] that names the first batch that can't be read back.
    pub fn reread(&self, pace: &mut dyn FnMut(u64) -> bool) -> Result<(), Refusal> {
        let (first, durable) = self.shared.board.extent();
        let from = |segment| Cursor { segment, offset: 0, batch: None };
        let mut reader = Reader::new(self.shared.segments.clone());
        let mut cursor = from(first);
        while cursor.is_before(durable) {
            match reader.read(&mut cursor) {
                Ok(header) if pace(header.extent()) => {}
                Ok(_) => break,
                // Given back and written anew while we read: what it held stands in tiles.
                Err(_) if self.shared.board.extent().0 > cursor.segment => {
                    cursor = from(self.shared.board.extent().0);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }
}
