//! Shamir's secret sharing (A. Shamir, *How to share a secret*, CACM 22(11), 1979) over GF(2^8) with the polynomial of AES
//! (FIPS 197 §4.2: x^8 + x^4 + x^3 + x + 1), byte by byte.
//!
//! Each byte of the secret is the constant term of a random polynomial of degree `threshold - 1`; share number `x` is its value at `x`. Fewer
//! shares than the threshold fit every secret equally well. Nothing here branches on a secret byte or looks one up in a table; numbers of
//! shares and the threshold are public.

use super::ROOT_KEY_LEN;
use core::hint::black_box;
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Secret, Stage};

/// The most shares that there can be: numbers are the field's elements but 0.
pub const MAX_SHARES: u8 = 255;

/// The fewest shares that are worth having: one would be the secret.
pub const MIN_THRESHOLD: u8 = 2;

/// Makes the shares number 1 to `shares` of a secret, any `threshold` of which give it again.
///
/// # Errors
/// `malformed` for a secret that has not 32 bytes, a threshold below 2, or fewer shares than the threshold; `internal` without entropy.
pub fn split<W: World>(secret: &Secret, shares: u8, threshold: u8, world: &W) -> Result<Vec<Secret>, Error> {
    if secret.len() != ROOT_KEY_LEN || threshold < MIN_THRESHOLD || shares < threshold {
        let detail = "the threshold is from 2 to the number of shares";
        return Err(Error::new(ErrorKind::Malformed, Stage::Start, detail)
            .remedy("choose a threshold of at least 2, and at least as many shares"));
    }
    // Every coefficient is uniform, the highest too: without zero there, fewer shares than the threshold would rule secrets out.
    let mut coefficients = Vec::with_capacity(usize::from(threshold) - 1);
    for _ in 1..threshold {
        coefficients.push(Secret::fill_with(ROOT_KEY_LEN, |bytes| world.fill(bytes))?);
    }
    let value = |x: u8| {
        Secret::fill_with(ROOT_KEY_LEN, |out| {
            for coefficient in coefficients.iter().rev() {
                out.iter_mut().zip(coefficient.expose()).for_each(|(y, c)| *y = multiply(*y ^ c, x));
            }
            out.iter_mut().zip(secret.expose()).for_each(|(y, s)| *y ^= s);
            Ok(())
        })
    };
    (1..=shares).map(value).collect()
}

/// The secret that these shares lie on, each with its number. Whether they belong together nobody can tell from the shares alone: compare the
/// result with what is known of the secret.
///
/// # Errors
/// `malformed` for no share at all, a share that has not 32 bytes, the number 0, and a number that comes twice.
pub fn combine(shares: &[(u8, &Secret)]) -> Result<Secret, Error> {
    let refused = |detail| {
        Error::new(ErrorKind::Malformed, Stage::Start, detail)
            .remedy("give shares of one generation, each of another custodian")
    };
    if shares.is_empty() || shares.iter().any(|(_, share)| share.len() != ROOT_KEY_LEN) {
        return Err(refused("a share has 32 bytes"));
    }
    let mut seen = [false; 256];
    for (x, _) in shares {
        match seen.get_mut(usize::from(*x)) {
            Some(seen) if *x != 0 && !*seen => *seen = true,
            Some(_) | None => return Err(refused("two shares have one number, or one has none")),
        }
    }
    Secret::fill_with(ROOT_KEY_LEN, |out| {
        for (x, share) in shares {
            // Lagrange's basis at 0: the product of x_j / (x_j - x) over all others. Public, like the numbers.
            let others = shares.iter().map(|(other, _)| *other).filter(|other| other != x);
            let basis =
                others.fold(1, |product, other| multiply(product, multiply(other, inverse(other ^ x))));
            out.iter_mut().zip(share.expose()).for_each(|(sum, y)| *sum ^= multiply(*y, basis));
        }
        Ok(())
    })
}

/// The product in the field, in the same steps for all operands.
const fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 8 {
        // Black boxes, so that no compiler makes a branch of a mask.
        product ^= a & black_box(0_u8.wrapping_sub(b & 1));
        let overflow = black_box(0_u8.wrapping_sub(a >> 7));
        a = (a << 1) ^ (0x1b & overflow);
        b >>= 1;
        bit += 1;
    }
    product
}

/// What gives 1 with `a`, which is `a` to the power of 254; 0 for 0.
const fn inverse(a: u8) -> u8 {
    let mut power = a;
    let mut count = 1;
    // 254 = 11111110 in binary: seven times squared, six of them multiplied in between.
    while count < 7 {
        power = multiply(multiply(power, power), a);
        count += 1;
    }
    multiply(power, power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::{Dry, Entropy};
    use proptest::prelude::*;

    /// FIPS 197 (2001) §4.2 and §4.2.1, the examples.
    #[test]
    fn the_field_is_that_of_fips_197() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
        for (factor, product) in [(0x02, 0xae), (0x04, 0x47), (0x08, 0x8e), (0x10, 0x07)] {
            assert_eq!(multiply(0x57, factor), product);
        }
    }

    /// codahale/shamir (Apache-2.0), `src/test/java/com/codahale/shamir/GF256Test.java`: products, quotients, an evaluation,
    /// interpolations at 0.
    #[test]
    fn published_vectors_of_another_implementation() {
        for (a, b, product) in [(90, 21, 254), (133, 5, 167), (0, 21, 0)] {
            assert_eq!(multiply(a, b), product);
        }
        for (a, b, quotient) in [(90, 21, 189), (6, 55, 151), (22, 192, 138), (0, 192, 0)] {
            assert_eq!(multiply(a, inverse(b)), quotient);
        }
        let polynomial = [1, 0, 2, 3];
        assert_eq!(polynomial.iter().rev().fold(0, |y, coefficient| multiply(y, 2) ^ coefficient), 17);
        for (points, at_zero) in [
            ([(1, 1), (2, 2), (3, 3)], 0),
            ([(1, 80), (2, 90), (3, 20)], 30),
            ([(1, 43), (2, 22), (3, 86)], 107),
        ] {
            let shares = points.map(|(x, y)| (x, Secret::new(vec![y; 32])));
            let shares: Vec<_> = shares.iter().map(|(x, share)| (*x, share)).collect();
            assert_eq!(combine(&shares).unwrap().expose(), [at_zero; 32]);
        }
    }

    /// By another way: logarithms to the base 3, which generates the field.
    #[test]
    fn every_product_and_every_inverse_is_right() {
        let (mut powers, mut x) = (vec![], 1_u8);
        for _ in 0..255 {
            powers.push(x);
            let doubled = (u16::from(x) << 1) ^ if x & 0x80 == 0 { 0 } else { 0x11b };
            x ^= u8::try_from(doubled).unwrap();
        }
        let log = |a: u8| powers.iter().position(|power| *power == a).unwrap();
        let logs: Vec<_> = (1..=255).map(log).collect();
        for a in 0..=255_u8 {
            for b in 0..=255_u8 {
                let expected = match (a, b) {
                    (0, _) | (_, 0) => 0,
                    _ => powers[(logs[usize::from(a) - 1] + logs[usize::from(b) - 1]) % 255],
                };
                assert_eq!(multiply(a, b), expected, "{a} by {b}");
            }
            assert_eq!(multiply(a, inverse(a)), u8::from(a != 0));
        }
    }

    fn subsets(of: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..1_u32 << of).map(move |set| (0..of).filter(|member| set >> member & 1 == 1).collect())
    }

    #[test]
    fn any_threshold_of_shares_gives_the_secret_and_fewer_do_not() {
        let secret = Secret::new((0..32).map(|byte| byte * 7 + 1).collect());
        for (count, threshold) in [(2, 2), (3, 2), (5, 3), (6, 6)] {
            let shares = split(&secret, count, threshold, &Entropy).unwrap();
            for chosen in subsets(shares.len()).filter(|chosen| !chosen.is_empty()) {
                let numbered: Vec<_> =
                    chosen.iter().map(|index| (u8::try_from(index + 1).unwrap(), &shares[*index])).collect();
                let found = combine(&numbered).unwrap();
                assert_eq!(found == secret, chosen.len() >= usize::from(threshold), "{count} {chosen:?}");
            }
        }
    }

    /// A world that gives these bytes, each 32 times.
    struct Given(std::sync::Mutex<Vec<u8>>);

    impl World for Given {
        fn now(&self) -> holdfast_core::Timestamp {
            holdfast_core::Timestamp::from_micros(0)
        }
        fn ticks(&self) -> u64 {
            0
        }
        fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
            out.fill(self.0.lock().unwrap().pop().unwrap());
            Ok(())
        }
    }

    /// Of two and of three: whatever the secret is, over all coefficients each value of the shares below the threshold comes equally often.
    #[test]
    fn fewer_shares_are_consistent_with_every_secret_equally_often() {
        for secret in 0..=255_u8 {
            let secret = Secret::new(vec![secret; 32]);
            for seen in 0..2 {
                let mut count = [0_u16; 256];
                for coefficient in 0..=255 {
                    let world = Given(vec![coefficient].into());
                    let shares = split(&secret, 2, 2, &world).unwrap();
                    count[usize::from(shares[seen].expose()[0])] += 1;
                }
                assert!(count.iter().all(|times| *times == 1));
            }
        }
        // Three of three, two of them seen: all pairs of values, for some secrets, since all would be 2^24 of each.
        for secret in [0, 0x53] {
            let secret = Secret::new(vec![secret; 32]);
            let mut pairs = vec![0_u8; 1 << 16];
            for first in 0..=255 {
                for second in 0..=255 {
                    let world = Given(vec![first, second].into());
                    let shares = split(&secret, 3, 3, &world).unwrap();
                    let (a, b) = (shares[0].expose()[0], shares[2].expose()[0]);
                    pairs[usize::from(a) << 8 | usize::from(b)] += 1;
                }
            }
            assert!(pairs.iter().all(|times| *times == 1));
        }
    }

    #[test]
    fn what_is_no_set_of_shares_is_refused() {
        let secret = Secret::new(vec![7; 32]);
        let shares = split(&secret, 3, 2, &Entropy).unwrap();
        let short = Secret::new(vec![1; 31]);
        assert!(combine(&[]).is_err());
        assert!(combine(&[(1, &shares[0]), (1, &shares[0])]).is_err());
        assert!(combine(&[(0, &shares[0]), (1, &shares[1])]).is_err());
        assert!(combine(&[(1, &shares[0]), (2, &short)]).is_err());
        assert_ne!(combine(&[(1, &shares[0]), (3, &shares[1])]).unwrap(), secret, "under a wrong number");
        for (count, threshold) in [(3, 1), (3, 0), (2, 3), (0, 0)] {
            assert!(split(&secret, count, threshold, &Entropy).is_err(), "{threshold} of {count}");
        }
        assert!(split(&short, 3, 2, &Entropy).is_err());
        assert!(split(&secret, 3, 2, &Dry).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_secret_comes_back(
            secret in proptest::array::uniform32(any::<u8>()),
            threshold in 2..=20_u8,
            more in 0..=235_u8,
            from in any::<u8>(),
        ) {
            let secret = Secret::new(secret.to_vec());
            let count = threshold + more;
            let shares = split(&secret, count, threshold, &Entropy).unwrap();
            let first = usize::from(from) % (usize::from(more) + 1);
            let numbered: Vec<_> = (1..=count).zip(&shares).skip(first).take(usize::from(threshold)).collect();
            prop_assert_eq!(&combine(&numbered).unwrap(), &secret);
            prop_assert_ne!(&combine(&numbered[1..]).unwrap(), &secret);
        }
    }
}
