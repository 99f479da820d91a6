//! A token of SoftHSM2: its module called directly, by as many threads with a session each, and through a member's worker process. The same
//! keys, the same process time.

use crate::machine;
use crate::report::{Report, TokenRow, percentile};
use anyhow::{Context as _, Result, bail};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{Session, UserType};
use holdfast_core::Secret;
use holdfast_core::algorithm::{Algorithm, Hash, SignatureScheme};
use holdfast_keystore::pkcs11::message::{Id, Reply, Request};
use holdfast_keystore::pkcs11::{Launch, Member};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "5678";
const LABEL: &str = "bench";
const TEXT: [u8; 32] = [7; 32];

/// Below every modulus of 2048 bits.
const NUMBER: [u8; 256] = {
    let mut number = [7; 256];
    number[0] = 0;
    number
};

/// What is done.
#[derive(Clone, Copy)]
enum What {
    Seal,
    Sign,
    Decrypt,
}

/// An operation, with the key that it takes.
#[derive(Clone, Copy)]
struct Operation {
    kind: What,
    name: &'static str,
    algorithm: Algorithm,
    id: Id,
    class: ObjectClass,
}

const OPERATIONS: [Operation; 3] = [
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
        kind: What::Decrypt,
        name: "RSA-2048 decrypt, bare",
        algorithm: Algorithm::Rsa2048,
        id: [3; 16],
        class: ObjectClass::PRIVATE_KEY,
    },
];

/// One at a time, and so many at once.
const AT_ONCE: [u32; 2] = [1, 8];

/// Whether there is a module to measure.
pub(crate) fn is_there() -> bool {
    Path::new(MODULE).is_file()
}

/// Measures, with a token of its own.
pub(crate) async fn measure(within: &Path, time: Duration, report: &mut Report) -> Result<()> {
    let conf = made(&within.join("token"))?;
    let environment = vec![(OsString::from("SOFTHSM2_CONF"), conf.clone().into_os_string())];
    let launch = Launch {
        arguments: vec![OsString::from("hsm-worker")],
        environment,
        lanes: 8,
        ..Launch::new(MODULE, LABEL, Secret::from(PIN.as_bytes()))
    };
    let member = Arc::new(Member::start(launch));
    member.ready(Duration::from_secs(60)).await.map_err(|why| anyhow::anyhow!("{why}"))?;
    for Operation { algorithm, id, .. } in OPERATIONS {
        let request = Request::Generate { algorithm, id, label: "bench", travels: false };
        let made = ask(&member, &request, |reply| matches!(reply, Reply::Made(_))).await?;
        if !made {
            bail!("the token does not make {algorithm}");
        }
    }
    for operation in OPERATIONS {
        for at_once in AT_ONCE {
            let direct = direct(&conf, operation, at_once, time)?;
            let through = through(&member, operation, at_once, time).await?;
            report.tokens.push(TokenRow::new(operation.name, at_once, direct, through));
        }
    }
    Ok(())
}

fn made(dir: &Path) -> Result<std::path::PathBuf> {
    std::fs::create_dir_all(dir.join("tokens"))?;
    let conf = dir.join("conf").canonicalize().unwrap_or_else(|_| dir.join("conf"));
    std::fs::write(
        &conf,
        format!(
            "directories.tokendir = {}\nlog.level = ERROR\n",
            dir.join("tokens").canonicalize()?.display()
        ),
    )?;
    let conf = conf.canonicalize()?;
    let done = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .context("`softhsm2-util` is needed: install `softhsm2`")?;
    if !done.status.success() {
        bail!("no token: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(conf)
}

/// Operations, their CPU time, and the median of their latencies in microseconds.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn figures(mut nanos: Vec<u32>, elapsed: Duration, cpu: Duration) -> Figures {
    nanos.sort_unstable();
    let count = nanos.len().max(1) as f64;
    Figures {
        per_second: count / elapsed.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
        p50_us: f64::from(percentile(&nanos, 50)) / 1e3,
    }
}

fn nanos(begin: Instant) -> u32 {
    u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// This binary again, which loads the module.
fn direct(conf: &Path, operation: Operation, at_once: u32, time: Duration) -> Result<Figures> {
    let place = OPERATIONS.iter().position(|other| other.id == operation.id).unwrap_or(0);
    let done = Command::new(std::env::current_exe()?)
        .args(["module", &place.to_string(), &at_once.to_string(), &time.as_millis().to_string()])
        .env("SOFTHSM2_CONF", conf)
        .output()?;
    serde_json::from_slice(&done.stdout).with_context(|| String::from_utf8_lossy(&done.stderr).into_owned())
}

/// What that process does.
#[expect(clippy::print_stdout, reason = "what it found is for its parent")]
pub(crate) fn module(place: usize, at_once: u32, time: Duration) -> Result<()> {
    let operation = *OPERATIONS.get(place).context("no such operation")?;
    let pkcs11 = Pkcs11::new(MODULE)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slots = pkcs11.get_slots_with_initialized_token()?;
    let slot = *slots.first().context("no token")?;
    let sessions: Vec<Session> =
        (0..at_once).map(|_| pkcs11.open_rw_session(slot)).collect::<Result<_, _>>()?;
    let first = sessions.first().context("no session")?;
    first.login(UserType::User, Some(&PIN.to_owned().into()))?;
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let all: Result<Vec<Vec<u32>>> = thread::scope(|scope| {
        let threads: Vec<_> =
            sessions.into_iter().map(|session| scope.spawn(|| call(session, operation, &stop))).collect();
        while begin.elapsed() < time {
            thread::park_timeout(time);
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().ok().context("a thread panicked")?).collect()
    });
    let elapsed = begin.elapsed();
    let cpu = machine::cpu_of(std::process::id())?;
    println!("{}", serde_json::to_string(&figures(all?.into_iter().flatten().collect(), elapsed, cpu))?);
    Ok(())
}

fn call(session: Session, operation: Operation, stop: &AtomicBool) -> Result<Vec<u32>> {
    let Operation { kind, id, class, .. } = operation;
    let key = session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())])?;
    let key = *key.first().context("no key")?;
    let mut waits = Vec::with_capacity(1 << 16);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let made = match kind {
            What::Seal => {
                let mut nonce = [9; 12];
                let parameters = GcmParams::new(&mut nonce, b"aad", 128.into())?;
                session.encrypt(&Mechanism::AesGcm(parameters), key, &TEXT)?
            }
            What::Sign => session.sign(&Mechanism::Ecdsa, key, &TEXT)?,
            What::Decrypt => session.decrypt(&Mechanism::RsaX509, key, &NUMBER)?,
        };
        waits.push(nanos(begin));
        std::hint::black_box(made);
    }
    Ok(waits)
}

async fn ask<T>(member: &Member, request: &Request<'_>, read: impl FnOnce(Reply<'_>) -> T) -> Result<T> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    member.ask(request, deadline, read).await.map_err(|why| anyhow::anyhow!("{why:?}"))
}

async fn through(
    member: &Arc<Member>,
    operation: Operation,
    at_once: u32,
    time: Duration,
) -> Result<Figures> {
    let worker = member.worker().context("no worker")?;
    let used = || Ok::<_, anyhow::Error>(machine::cpu_of(worker)? + machine::cpu_of(std::process::id())?);
    let (before, begin) = (used()?, Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        tasks.spawn(request_for(Arc::clone(member), operation, begin, time));
    }
    let mut all = Vec::new();
    while let Some(waits) = tasks.join_next().await {
        all.extend(waits??);
    }
    let elapsed = begin.elapsed();
    Ok(figures(all, elapsed, used()?.saturating_sub(before)))
}

async fn request_for(
    member: Arc<Member>,
    operation: Operation,
    from: Instant,
    time: Duration,
) -> Result<Vec<u32>> {
    let Operation { kind, id, .. } = operation;
    let request = match kind {
        What::Seal => Request::Seal { id, nonce: [9; 12], aad: b"aad", plaintext: &TEXT },
        What::Sign => Request::Sign { id, scheme: SignatureScheme::Ecdsa(Hash::Sha256), input: &TEXT },
        What::Decrypt => Request::RsaBare { id, body: &NUMBER },
    };
    let mut waits = Vec::with_capacity(1 << 16);
    while from.elapsed() < time {
        let begin = Instant::now();
        if !ask(&member, &request, |reply| matches!(reply, Reply::Done(_))).await? {
            bail!("the token refuses {request:?}");
        }
        waits.push(nanos(begin));
    }
    Ok(waits)
}
