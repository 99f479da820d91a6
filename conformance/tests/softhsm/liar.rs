//! A worker that keeps to the protocol's form and not to the truth.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use holdfast_keystore::pkcs11::message::{
    Buffer, Evidence, Existing, Hello, Made, Reply, Request, Uses, Welcome,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "whoever starts it has no other way to say it")]
pub(crate) fn run() {
    let lie = std::env::var("LIE").unwrap();
    let mut control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let hello = frame(&mut control).unwrap();
    let mut processors = u8::try_from(Hello::decode(&hello).unwrap().processors).unwrap();
    let mut place = place(&control);
    let about = Welcome {
        manufacturer: "l",
        model: "i",
        serial: "a",
        firmware: "r",
        mechanisms: &[],
        kek: &[],
        confined: 0,
        through_itself: false,
    };
    send(&mut control, 0, &Reply::Welcome(about));
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (mut signed, mut macs) = (0, 0);
    while let Some((request, mut lane)) = place.next() {
        let (number, request) = Request::decode(&request).unwrap();
        match request {
            Request::Generate { .. } => {
                let evidence = Evidence {
                    local: true,
                    sensitive: true,
                    always_sensitive: true,
                    extractable: lie == "extractable",
                    never_extractable: true,
                    wrap_with_trusted: false,
                    undestroyable: false,
                };
                let point = if lie == "no-point" { &[4; 65] } else { pair.public_key().as_ref() };
                match lie.as_str() {
                    "garbage" => lane.write_all(&[0, 0, 0, 5, 1, 2, 3, 4, 5]).unwrap(),
                    "endless" => lane.write_all(&[0xff; 64]).unwrap(),
                    "another-question" => send(&mut lane, number, &Reply::Done(point)),
                    _ => {
                        send(&mut lane, number, &Reply::Made(Made { evidence, public: point, exponent: &[] }))
                    }
                }
            }
            Request::LookUp { object } => {
                let evidence = Evidence {
                    local: true,
                    sensitive: true,
                    always_sensitive: true,
                    extractable: false,
                    never_extractable: true,
                    wrap_with_trusted: false,
                    undestroyable: false,
                };
                let existing = Existing {
                    evidence,
                    uses: Uses::SIGN,
                    key_type: 3,
                    length: 0,
                    parameters: &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
                    id: b"id",
                    label: if lie == "another-object" { "other" } else { object.label },
                    public: pair.public_key().as_ref(),
                    exponent: &[],
                };
                send(&mut lane, number, &Reply::Existing(existing));
            }
            Request::Sign { .. } => {
                signed += 1;
                let right = lie == "together" || lie == "wrong-later" && signed == 1;
                let message: &[u8] =
                    if right { b"holdfast/key-commitment/v1: in the token" } else { b"other" };
                let made = pair.sign(&SystemRandom::new(), message).unwrap();
                match lie.as_str() {
                    "no-packet" => lane.write_all(&[0, 0, 0, 5, 1, 2, 3, 4]).unwrap(),
                    "another-number" => send(&mut lane, number + (1 << 10), &Reply::Done(made.as_ref())),
                    _ => send(&mut lane, number, &Reply::Done(made.as_ref())),
                }
            }
            Request::Mac { .. } => {
                macs += 1;
                let thinks = match lie.strip_prefix("slow-") {
                    Some(milliseconds) => milliseconds.parse().unwrap(),
                    None if lie == "silent-later" && macs > 20 => u64::MAX,
                    None => 0,
                };
                std::thread::sleep(Duration::from_millis(thinks));
                let told = hear(&mut control);
                processors = told.last().copied().unwrap_or(processors);
                let share = [processors];
                send(&mut lane, number, &Reply::Done(if lie == "share" { &share } else { b"short" }));
            }
            // It erases nothing before the other member is asked to.
            Request::Destroy { id, .. } if lie == "together" => {
                let asked = PathBuf::from(std::env::var("ASKED").unwrap()).join(format!("{id:?}"));
                std::fs::create_dir_all(&asked).unwrap();
                std::fs::write(asked.join(std::process::id().to_string()), []).unwrap();
                while std::fs::read_dir(&asked).unwrap().count() < 2 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                send(&mut lane, number, &Reply::Done(b""));
            }
            Request::Probe
            | Request::Random { .. }
            | Request::Destroy { .. }
            | Request::BringIn { .. }
            | Request::PointOut { .. }
            | Request::DestroyExisting { .. }
            | Request::WrapOut { .. }
            | Request::UnwrapIn { .. }
            | Request::Seal { .. }
            | Request::Open { .. }
            | Request::Wrap { .. }
            | Request::Unwrap { .. }
            | Request::RsaDecrypt { .. }
            | Request::RsaBare { .. }
            | Request::Agree { .. } => send(&mut lane, number, &Reply::Done(b"short")),
        }
    }
}

fn frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

/// What it has been told since.
fn hear(control: &mut UnixStream) -> Vec<u8> {
    let mut told = vec![0; 16];
    control.set_nonblocking(true).unwrap();
    let length = control.read(&mut told).unwrap_or(0);
    told.truncate(length);
    told
}

fn send(stream: &mut UnixStream, number: u32, reply: &Reply<'_>) {
    let mut buffer = Buffer::default();
    reply.encode(number, &mut buffer).unwrap();
    stream.write_all(&buffer).unwrap();
}

/// Where requests come: a socket of packets, and lanes for what makes keys.
struct Place(Vec<UnixStream>);

impl Place {
    /// The next request, wherever it comes, and where its reply goes.
    fn next(&mut self) -> Option<(Vec<u8>, UnixStream)> {
        let mut ready: Vec<_> = self.0.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        poll(&mut ready, None).unwrap();
        let at = ready.iter().position(|socket| !socket.revents().is_empty()).unwrap();
        let socket = self.0[at].try_clone().unwrap();
        let request = match at {
            0 => {
                let mut packet = vec![0; 1 << 16];
                let (_, length) = rustix::net::recv(&socket, &mut packet[..], RecvFlags::empty()).unwrap();
                packet.get(4..length)?.to_vec()
            }
            _ => frame(&mut self.0[at])?,
        };
        Some((request, socket))
    }
}

fn place(control: &UnixStream) -> Place {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags).unwrap();
    let sockets = ancillary.drain().filter_map(|message| {
        let RecvAncillaryMessage::ScmRights(sockets) = message else { return None };
        Some(sockets)
    });
    Place(sockets.flatten().map(UnixStream::from).collect())
}
