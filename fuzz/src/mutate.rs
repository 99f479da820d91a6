//! Mutations: small changes of what is known to lead somewhere.

/// A source of mutations; the same seed gives the same ones.
pub struct Mutator {
    state: u64,
}

/// What decoders look for.
const WORDS: [&[u8]; 20] = [
    b"{",
    b"}",
    b"\"",
    b"\\u0000",
    b"null",
    b"true",
    b"-1",
    b"18446744073709551616",
    b"\r\n",
    b"\n\n",
    b"\xff\xff\xff\xff",
    b"\0",
    b"\xe2\x80\x94",
    b"+",
    b"==",
    b"/../",
    b"%00",
    b"permit",
    b"forbid",
    b"\x30\x82",
];

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self { state: seed | 1 }
    }

    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// A mutation of one of the seeds, at most `max` bytes long.
    pub fn mutate(&mut self, seeds: &[Vec<u8>], max: usize) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            match self.below(8) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = self.next() as u8,
                2 => {
                    let word = WORDS[self.below(WORDS.len())];
                    input.splice(at..at, word.iter().copied());
                }
                3 => input.truncate(at),
                4 => {
                    let end = (at + self.below(16)).min(input.len());
                    input.drain(at..end);
                }
                5 => {
                    let end = (at + self.below(64)).min(input.len());
                    let piece = input[at..end].to_vec();
                    input.splice(at..at, piece);
                }
                6 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => input.insert(at, self.next() as u8),
            }
        }
        input.truncate(max);
        input
    }
}
