//! A token's module in processes of its own, so that their CPU time can be told apart: called directly, or from another process by the least that
//! this takes.

use crate::machine;
use crate::sample::{Sample, nanos};
use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use holdfast_conformance::softhsm::MODULE;
use holdfast_core::algorithm::Algorithm;
use holdfast_keystore::pkcs11::message::Id;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const PIN: &str = "5678";
pub(crate) const LABEL: &str = "bench";
pub(crate) const TEXT: [u8; 32] = [7; 32];

/// Below every modulus of 2048 bits.
pub(crate) const NUMBER: [u8; 256] = {
    let mut number = [7; 256];
    number[0] = 0;
    number
};

/// What is done.
#[derive(Clone, Copy)]
pub(crate) enum What {
    Seal,
    Sign,
    /// On either way each signature is verified, as it is before it leaves a gateway.
    SignVerified,
    Decrypt,
}

/// An operation, with the key that it takes.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) kind: What,
    pub(crate) name: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) id: Id,
    pub(crate) class: ObjectClass,
}

pub(crate) const OPERATIONS: [Operation; 4] = [
    Operation {
        kind: What::Seal,
        name: "AES-GCM of 32 bytes",
        algorithm: Algorithm::Aes256Gcm,
        id: [1; 16],
        class: ObjectClass::SECRET_KEY,
    },
    Operation {
        kind: What::Sign,
        name: "ECDSA P-256 sign",
        algorithm: Algorithm::EcdsaP256,
        id: [2; 16],
        class: ObjectClass::PRIVATE_KEY,
    },
    Operation {
        kind: What::SignVerified,
        name: "ECDSA, both verify",
        algorithm: Algorithm::EcdsaP256,
        id: [2; 16],
        class: ObjectClass::PRIVATE_KEY,
    },
    Operation {
        kind: What::Decrypt,
        name: "RSA-2048 decrypt, bare",
        algorithm: Algorithm::Rsa2048,
        id: [3; 16],
        class: ObjectClass::PRIVATE_KEY,
    },
];

/// The module, loaded and logged in to, with so many who call it.
struct Module {
    callers: Vec<Caller>,
    /// The module is unloaded with it.
    _loaded: Pkcs11,
}

impl Module {
    fn load(operation: Operation, callers: u32) -> Result<Self> {
        let loaded = Pkcs11::new(MODULE)?;
        loaded.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let slot = *loaded.get_slots_with_initialized_token()?.first().context("no token")?;
        let sessions: Vec<Session> =
            (0..callers).map(|_| loaded.open_rw_session(slot)).collect::<Result<_, _>>()?;
        let first = sessions.first().context("no session")?;
        first.login(UserType::User, Some(&PIN.to_owned().into()))?;
        let callers = sessions.into_iter().map(|session| Caller::new(session, operation));
        Ok(Self { callers: callers.collect::<Result<_>>()?, _loaded: loaded })
    }
}

/// A session that does one thing again and again, its key looked up once.
struct Caller {
    session: Session,
    kind: What,
    key: ObjectHandle,
    digest: Digest,
}

impl Caller {
    fn new(session: Session, Operation { kind, id, class, .. }: Operation) -> Result<Self> {
        let found = session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())])?;
        let key = *found.first().context("no key")?;
        Ok(Self { session, kind, key, digest: digest(&SHA256, &TEXT) })
    }

    fn once(&self) -> Result<Vec<u8>> {
        let Self { session, key, .. } = self;
        Ok(match self.kind {
            What::Seal => {
                let mut nonce = [9; 12];
                let parameters = GcmParams::new(&mut nonce, b"aad", 128.into())?;
                session.encrypt(&Mechanism::AesGcm(parameters), *key, &TEXT)?
            }
            What::Sign | What::SignVerified => session.sign(&Mechanism::Ecdsa, *key, self.digest.as_ref())?,
            What::Decrypt => session.decrypt(&Mechanism::RsaX509, *key, &NUMBER)?,
        })
    }
}

/// An operation, with what verifies it: its public key's uncompressed point, empty for what is not on a curve.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) operation: Operation,
    pub(crate) point: Arc<[u8]>,
}

impl Subject {
    /// Whether a result is right, as far as either way looks.
    pub(crate) fn accepts(&self, made: &[u8]) -> bool {
        let verifying = || UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point);
        !matches!(self.operation.kind, What::SignVerified) || verifying().verify(&TEXT, made).is_ok()
    }

    /// This binary again, with a token, to do something with this operation.
    fn command(&self, conf: &Path, what: &str) -> Result<Command> {
        let place = OPERATIONS.iter().position(|other| other.name == self.operation.name).unwrap_or(0);
        let mut command = Command::new(std::env::current_exe()?);
        command.args([what, &place.to_string()]).env("SOFTHSM2_CONF", conf);
        Ok(command)
    }
}

/// Called directly, by so many threads of its own process.
pub(crate) fn directly(conf: &Path, subject: &Subject, at_once: u32, time: Duration) -> Result<Sample> {
    let point = subject.point.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let done = subject
        .command(conf, "module")?
        .args([&at_once.to_string(), &time.as_millis().to_string(), &point])
        .output()?;
    serde_json::from_slice(&done.stdout).with_context(|| String::from_utf8_lossy(&done.stderr).into_owned())
}

/// What that process does.
#[expect(clippy::print_stdout, reason = "what it found is for its parent")]
pub(crate) fn call(place: usize, at_once: u32, time: Duration, point: &str) -> Result<()> {
    let operation = *OPERATIONS.get(place).context("no such operation")?;
    let point: Vec<u8> = (0..point.len() / 2)
        .map(|at| u8::from_str_radix(point.get(2 * at..2 * at + 2).unwrap_or_default(), 16))
        .collect::<Result<_, _>>()?;
    let subject = Subject { operation, point: point.into() };
    let Module { callers, _loaded } = Module::load(operation, at_once)?;
    // Loading it and logging in are not what is compared.
    let sample = sampled(&[std::process::id()], time, callers, |caller| {
        let made = caller.once()?;
        ensure!(subject.accepts(&made), "a wrong signature");
        Ok(())
    })?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Does something again and again, a thread for each of those who do it; the processes' time is counted.
fn sampled<T: Send>(
    processes: &[u32],
    time: Duration,
    all: Vec<T>,
    once: impl Fn(&T) -> Result<()> + Sync,
) -> Result<Sample> {
    let used = || processes.iter().copied().map(machine::cpu_of).sum::<Result<Duration>>();
    let (before, begin) = (used()?, Instant::now());
    let again = |one: T| {
        let mut waits = Vec::with_capacity(1 << 16);
        while begin.elapsed() < time {
            let from = Instant::now();
            once(&one)?;
            waits.push(nanos(from));
        }
        Ok(waits)
    };
    let waits: Result<Vec<Vec<u32>>> = thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(|| again(one))).collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a thread panicked")?).collect()
    });
    let elapsed = begin.elapsed();
    Ok(Sample { waits: waits?.into_iter().flatten().collect(), elapsed, cpu: used()?.saturating_sub(before) })
}

/// Bytes of a packet, at most.
const PACKET: usize = 1024;

/// The least that it takes to have the module in another process, as a pool has it: two processes with half of the sessions each, packets over a
/// socket that a process's sessions share, and threads that wait for nothing else.
pub(crate) fn apart(conf: &Path, subject: &Subject, at_once: u32, time: Duration) -> Result<Sample> {
    let processes: Vec<(Child, Arc<OwnedFd>)> = (0..at_once.min(2))
        .map(|_| {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            let sessions = at_once.div_ceil(2).to_string();
            let child = subject.command(conf, "module-apart")?.arg(sessions).stdin(theirs).spawn()?;
            // It says so when it is ready.
            recv(&ours, &mut [0; PACKET][..], RecvFlags::empty())?;
            Ok((child, Arc::new(ours)))
        })
        .collect::<Result<_>>()?;
    let counted: Vec<u32> =
        processes.iter().map(|(child, _)| child.id()).chain([std::process::id()]).collect();
    let sockets = processes.iter().map(|(_, socket)| Arc::clone(socket)).cycle().take(at_once as usize);
    let sample = sampled(&counted, time, sockets.collect(), |socket| {
        let mut packet = [0; PACKET];
        send(socket, &NUMBER, SendFlags::NOSIGNAL)?;
        let (length, _) = recv(socket, &mut packet[..], RecvFlags::empty())?;
        ensure!(length > 0 && subject.accepts(packet.get(..length).unwrap_or_default()), "no right result");
        Ok(())
    });
    for (mut child, socket) in processes {
        shutdown(&socket, Shutdown::Both)?;
        child.wait()?;
    }
    sample
}

/// What those processes do.
pub(crate) fn serve(place: usize, sessions: u32) -> Result<()> {
    let operation = *OPERATIONS.get(place).context("no such operation")?;
    let Module { callers, _loaded } = Module::load(operation, sessions)?;
    let socket = std::io::stdin();
    let serve = |caller: Caller| {
        let mut packet = [0; PACKET];
        while recv(&socket, &mut packet[..], RecvFlags::empty())?.0 > 0 {
            send(&socket, &caller.once()?, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    };
    send(&socket, b"ready", SendFlags::NOSIGNAL)?;
    thread::scope(|scope| {
        let threads: Vec<_> = callers.into_iter().map(|caller| scope.spawn(|| serve(caller))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a thread panicked")?)
    })
}
