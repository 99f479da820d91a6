//! Frames as they come from a stream, in pieces or whole: what the two ends of a lane share.

use super::message::{Buffer, NotAFrame, frame_len};
use zeroize::Zeroize as _;

/// What most frames fit into.
const FIRST: usize = 4096;

/// Bytes that have come, of one frame: there is one at a time.
pub(super) struct Incoming {
    buffer: Buffer,
    filled: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { buffer: Buffer::new(vec![0; FIRST]), filled: 0 }
    }
}

impl Incoming {
    /// Whether a whole frame is there; makes room for it if it is not.
    ///
    /// # Errors
    /// For a length that no frame has, and for more than one frame.
    pub(super) fn is_whole(&mut self) -> Result<bool, NotAFrame> {
        let Some(head) = self.buffer.get(..self.filled).and_then(<[u8]>::first_chunk::<4>) else {
            return Ok(false);
        };
        let wanted = 4 + frame_len(*head)?;
        if self.filled >= wanted {
            return if self.filled == wanted { Ok(true) } else { Err(NotAFrame) };
        }
        if wanted > self.buffer.len() {
            // A new one, and the old one wiped.
            let mut larger = Buffer::new(vec![0; wanted]);
            for (to, from) in larger.iter_mut().zip(self.buffer.iter()) {
                *to = *from;
            }
            self.buffer = larger;
        }
        Ok(false)
    }

    /// Where further bytes go.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// So many have come there.
    pub(super) fn came(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// The frame, without its length.
    pub(super) fn frame(&self) -> &[u8] {
        self.buffer.get(4..self.filled).unwrap_or_default()
    }

    /// Wipes it, for the next one.
    pub(super) fn wipe(&mut self) {
        self.buffer.get_mut(..self.filled).unwrap_or_default().zeroize();
        self.filled = 0;
    }

    #[cfg(test)]
    pub(super) fn is_wiped(&self) -> bool {
        self.filled == 0 && self.buffer.iter().all(|byte| *byte == 0)
    }
}
