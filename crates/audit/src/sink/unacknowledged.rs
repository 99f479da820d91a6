//! How many bytes of a TCP connection the peer's kernel has not acknowledged, as Linux says in `/proc/self/net/tcp`. The
//! call for it (SIOCOUTQ) would need unsafe code.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};

/// The bytes of the connection from `local` to `peer` that were sent and not acknowledged, or wait to be sent; nothing if it is
/// not established any more.
pub(super) fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u64>> {
    let table = if local.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let wanted = format!("{} {} ", written(local), written(peer));
    for line in BufReader::new(File::open(table)?).lines() {
        if let Some((_, rest)) = line?.split_once(": ").filter(|(_, rest)| rest.starts_with(&wanted)) {
            return Ok(queue(rest.get(wanted.len()..).unwrap_or_default()));
        }
    }
    Ok(None)
}

/// The send queue of an established connection in `STATE SEND:RECEIVE …`.
fn queue(rest: &str) -> Option<u64> {
    let (queue, _) = rest.strip_prefix("01 ")?.split_once(':')?;
    u64::from_str_radix(queue, 16).ok()
}

/// An address as the table has it: words of 32 bits in the machine's order, hexadecimal.
fn written(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{port:04X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let (words, _) = octets.as_chunks::<4>();
            let words: String =
                words.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect();
            format!("{words}:{port:04X}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    /// Enough for no machine's buffers.
    const MUCH: usize = 64 << 20;

    fn holds_on(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let (from, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let unsent = || unacknowledged(from, to).unwrap();
        assert_eq!(unsent(), Some(0));
        stream.set_nonblocking(true).unwrap();
        let bytes = vec![0; MUCH];
        let mut sent = 0;
        while let Ok(n) = stream.write(&bytes) {
            sent += n;
        }
        // The peer reads nothing, and its buffer is full.
        assert!(unsent().unwrap() > 0);
        let mut read = 0;
        let mut buffer = vec![0; 1 << 20];
        while read < sent {
            read += peer.read(&mut buffer).unwrap();
        }
        assert_eq!(unsent(), Some(0));
        drop(peer);
        stream.set_nonblocking(false).unwrap();
        assert_eq!(stream.read(&mut buffer).unwrap(), 0);
        assert_eq!(unsent(), None);
    }

    #[test]
    fn what_the_peer_has_not_taken_is_counted() {
        holds_on("127.0.0.1:0");
        if TcpListener::bind("[::1]:0").is_ok() {
            holds_on("[::1]:0");
        }
    }
}
