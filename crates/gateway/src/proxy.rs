//! The PROXY protocol, versions 1 and 2: what a configured load balancer says of the peer behind it.
//!
//! Believed only from configured addresses, and then required, so that nobody can pass for a load balancer or go around one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is read: version 1 has at most 107 bytes, version 2 here 16 + 536.
pub const MAX_HEADER: usize = 552;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What the bytes read so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Incomplete,
    /// A header of this many bytes; the source is `None` for the balancer's own connections (`LOCAL`, `UNKNOWN`).
    Complete(usize, Option<SocketAddr>),
    /// Something else.
    Refused,
}

/// Looks for a header at the beginning of `bytes`. Pure; the caller reads more on [`Parsed::Incomplete`].
pub fn parse(bytes: &[u8]) -> Parsed {
    let shown = bytes.len().min(SIGNATURE.len());
    if bytes.get(..shown) == SIGNATURE.get(..shown) {
        return parse_v2(bytes).unwrap_or(Parsed::Incomplete);
    }
    let shown = bytes.len().min(6);
    if bytes.get(..shown) == b"PROXY ".get(..shown) {
        return parse_v1(bytes);
    }
    Parsed::Refused
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let window = bytes.get(..bytes.len().min(107)).unwrap_or_default();
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < 107 { Parsed::Incomplete } else { Parsed::Refused };
    };
    let line = window.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return Parsed::Refused };
    let mut words = line.split(' ').skip(1);
    let length = end.saturating_add(2);
    match words.next() {
        Some("UNKNOWN") => Parsed::Complete(length, None),
        Some(family @ ("TCP4" | "TCP6")) => {
            let source = words.next().and_then(|word| word.parse::<IpAddr>().ok());
            let target = words.next().and_then(|word| word.parse::<IpAddr>().ok());
            let port = words.next().and_then(|word| word.parse::<u16>().ok());
            let target_port = words.next().and_then(|word| word.parse::<u16>().ok());
            match (source, target, port, target_port, words.next()) {
                (Some(source), Some(target), Some(port), Some(_), None)
                    if source.is_ipv4() == (family == "TCP4") && source.is_ipv4() == target.is_ipv4() =>
                {
                    Parsed::Complete(length, Some(SocketAddr::new(source, port)))
                }
                _ => Parsed::Refused,
            }
        }
        _ => Parsed::Refused,
    }
}

/// `None` while bytes are missing.
fn parse_v2(bytes: &[u8]) -> Option<Parsed> {
    let (_, rest) = bytes.split_first_chunk::<12>()?;
    let ([command, family, high, low], rest) = rest.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let total = length.saturating_add(16);
    if total > MAX_HEADER {
        return Some(Parsed::Refused);
    }
    let body = rest.get(..length)?;
    Some(match (command, family) {
        (0x20, _) => Parsed::Complete(total, None),
        (0x21, 0x11) => match body.first_chunk::<12>() {
            Some([a, b, c, d, _, _, _, _, high, low, _, _]) => {
                let port = u16::from_be_bytes([*high, *low]);
                Parsed::Complete(total, Some(SocketAddr::from((Ipv4Addr::new(*a, *b, *c, *d), port))))
            }
            None => Parsed::Refused,
        },
        (0x21, 0x21) => match (body.first_chunk::<16>(), body.get(32..34)) {
            (Some(address), Some([high, low])) if body.len() >= 36 => {
                let port = u16::from_be_bytes([*high, *low]);
                Parsed::Complete(total, Some(SocketAddr::from((Ipv6Addr::from(*address), port))))
            }
            _ => Parsed::Refused,
        },
        (0x21, 0x00) => Parsed::Complete(total, None),
        _ => Parsed::Refused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

    fn v2() -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[0x21, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb]);
        bytes
    }

    #[test]
    fn headers_of_both_versions_name_the_peer() {
        let peer = Some("192.0.2.7:56324".parse().unwrap());
        assert_eq!(parse(V1), Parsed::Complete(V1.len(), peer));
        assert_eq!(parse(&v2()), Parsed::Complete(28, peer));
        assert_eq!(parse(b"PROXY UNKNOWN\r\nrest"), Parsed::Complete(15, None));
    }

    #[test]
    fn every_beginning_of_a_header_waits_for_the_rest() {
        for whole in [V1.to_vec(), v2()] {
            for end in 1..whole.len() {
                assert_eq!(parse(&whole[..end]), Parsed::Incomplete, "{end}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let mut long = SIGNATURE.to_vec();
        long.extend_from_slice(&[0x21, 0x11, 0xff, 0xff]);
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 443\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443 extra\r\n",
            &long,
            &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
        ] {
            assert_eq!(parse(bytes), Parsed::Refused, "{bytes:?}");
        }
    }
}
