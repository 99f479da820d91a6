//! SHAKE128 (FIPS 202 §6.2) for published vectors that are generated with it. Tests only: slow, and of no use to keys.

const RATE: usize = 168;

/// Absorbs until first read, then squeezes.
pub(crate) struct Shake128 {
    state: [u64; 25],
    at: usize,
    squeezing: bool,
}

impl Shake128 {
    pub(crate) fn new() -> Self {
        Self { state: [0; 25], at: 0, squeezing: false }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        assert!(!self.squeezing);
        for byte in bytes {
            self.mix(self.at, *byte);
            self.at += 1;
            if self.at == RATE {
                self.permute();
            }
        }
    }

    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        if !self.squeezing {
            self.mix(self.at, 0x1f);
            self.mix(RATE - 1, 0x80);
            self.permute();
            self.squeezing = true;
        }
        (0..length)
            .map(|_| {
                if self.at == RATE {
                    self.permute();
                }
                let byte = self.state[self.at / 8].to_le_bytes()[self.at % 8];
                self.at += 1;
                byte
            })
            .collect()
    }

    fn mix(&mut self, at: usize, byte: u8) {
        self.state[at / 8] ^= u64::from(byte) << (8 * (at % 8));
    }

    /// Keccak-f[1600] (FIPS 202 §3.3), its round constants from the LFSR of §3.2.5.
    fn permute(&mut self) {
        let a = &mut self.state;
        let mut lfsr = 1u8;
        for _ in 0..24 {
            let c: [u64; 5] = core::array::from_fn(|x| (0..5).fold(0, |sum, y| sum ^ a[x + 5 * y]));
            for x in 0..5 {
                let d = c[(x + 4) % 5] ^ c[(x + 1) % 5].rotate_left(1);
                (0..5).for_each(|y| a[x + 5 * y] ^= d);
            }
            let (mut x, mut y, mut moved) = (1, 0, a[1]);
            for t in 0..24u32 {
                (x, y) = (y, (2 * x + 3 * y) % 5);
                let rotated = moved.rotate_left((t + 1) * (t + 2) / 2 % 64);
                moved = core::mem::replace(&mut a[x + 5 * y], rotated);
            }
            for y in 0..5 {
                let row: [u64; 5] = core::array::from_fn(|x| a[x + 5 * y]);
                (0..5).for_each(|x| a[x + 5 * y] = row[x] ^ (!row[(x + 1) % 5] & row[(x + 2) % 5]));
            }
            for j in 0..7 {
                if lfsr & 1 == 1 {
                    a[0] ^= 1 << ((1u32 << j) - 1);
                }
                lfsr = (lfsr << 1) ^ ((lfsr >> 7) * 0x71);
            }
        }
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 202: SHAKE128 of the empty message.
    #[test]
    fn the_empty_message() {
        assert_eq!(hex::encode(Shake128::new().read(16)), "7f9c2ba4e88f827d616045507605853e");
    }
}
