//! A token of SoftHSM2: its module called directly, by as many threads with a session each, and through a pool of two worker processes. The same
//! keys, the same process time.

use crate::machine;
use crate::report::{FaultRow, Report, TokenRow, percentile};
use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki::session::{Session, UserType};
pub(crate) use holdfast_conformance::softhsm::MODULE;
use holdfast_conformance::softhsm::Token;
use holdfast_core::Secret;
use holdfast_core::algorithm::{Algorithm, Hash, SignatureScheme};
use holdfast_keystore::pkcs11::message::{Id, Reply, Request};
use holdfast_keystore::pkcs11::{Distribution, Launch, Member, Pool};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

pub(crate) const PIN: &str = "5678";
pub(crate) const LABEL: &str = "bench";
/// The deadline that a gateway has.
const PATIENCE: Duration = Duration::from_millis(120);
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
    /// On either way each signature is verified, as it is before it leaves a gateway.
    SignVerified,
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

/// A public key's uncompressed point; empty for what is not on a curve.
type Point = Arc<[u8]>;

/// An operation, with what verifies it.
#[derive(Clone)]
struct Subject {
    operation: Operation,
    point: Point,
}

const OPERATIONS: [Operation; 4] = [
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

/// One at a time, and so many at once.
const AT_ONCE: [u32; 2] = [1, 8];

/// The module and the pool take turns, so often, so that what else the machine is at meets both.
const TURNS: u32 = 5;

/// Whether there is a module to measure.
pub(crate) fn is_there() -> bool {
    Path::new(MODULE).is_file()
}

/// Measures, with a token of its own.
pub(crate) async fn measure(within: &Path, time: Duration, report: &mut Report) -> Result<()> {
    let token = made(within)?;
    let conf = token.conf();
    let environment = vec![(OsString::from("SOFTHSM2_CONF"), conf.clone().into_os_string())];
    // Two workers on one token, as a replicated group is: together as many sessions as the module is called with.
    let launch = |name: &str| Launch {
        name: name.to_owned(),
        arguments: vec![OsString::from("hsm-worker")],
        environment: environment.clone(),
        sessions: 4,
        ..Launch::new(MODULE, LABEL, Secret::from(PIN.as_bytes()))
    };
    // SoftHSM does not see what another process made before it made something itself: one makes all keys, and both begin with them.
    let maker = started(vec![launch("maker")]).await?;
    let mut made: Vec<(Id, Point)> = Vec::new();
    for operation in OPERATIONS {
        if made.iter().all(|(id, _)| *id != operation.id) {
            made.push((operation.id, make(&maker, operation).await?));
        }
    }
    let subject = |operation: Operation| {
        let made = made.iter().find(|(id, _)| *id == operation.id);
        Subject { operation, point: made.map_or_else(|| Arc::from([]), |(_, point)| Arc::clone(point)) }
    };
    drop(maker);
    let pool = Arc::new(started(vec![launch("a"), launch("b")]).await?);
    for operation in OPERATIONS {
        for at_once in AT_ONCE {
            report.tokens.push(row(&pool, &conf, subject(operation), operation.name, at_once, time).await?);
        }
    }
    // One at a time, what is added is mostly how long a processor that was halted takes to wake.
    let awake = Awake::start()?;
    for operation in OPERATIONS {
        let name = format!("{}, awake", operation.name);
        report.tokens.push(row(&pool, &conf, subject(operation), &name, 1, time).await?);
    }
    drop(awake);
    faults(&pool, report).await
}

async fn row(
    pool: &Arc<Pool>,
    conf: &Path,
    subject: Subject,
    name: &str,
    at_once: u32,
    time: Duration,
) -> Result<TokenRow> {
    let (mut direct, mut through) = (Sample::default(), Sample::default());
    let (hedged_before, retried_before) = pool.repeats();
    for _ in 0..TURNS {
        direct.add(directly(conf, subject.operation, at_once, time / TURNS)?);
        through.add(pooled(pool, &subject, at_once, time / TURNS).await?);
    }
    let (direct, through) = (direct.figures(), through.figures());
    let (hedged, retried) = pool.repeats();
    // A pool in which something fails is not what is measured.
    ensure!(
        retried == retried_before,
        "a member failed or was late {} times at {name}",
        retried - retried_before
    );
    Ok(TokenRow { operation: name.to_owned(), at_once, direct, through, hedged: hedged - hedged_before })
}

async fn started(launches: Vec<Launch>) -> Result<Pool> {
    let pool = Pool::start(launches, Distribution::Vendor, 1)?;
    for member in pool.members() {
        member.ready(Duration::from_secs(60)).await.map_err(|why| anyhow::anyhow!("{why}"))?;
    }
    Ok(pool)
}

async fn make(pool: &Pool, Operation { algorithm, id, .. }: Operation) -> Result<Point> {
    let request = Request::Generate { algorithm, id, label: "bench", travels: false };
    let made = pool.ask(&request, Duration::from_secs(60), |reply| match reply {
        Reply::Made(made) => Ok(Some(Point::from(point_of(made.public)))),
        Reply::Done(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => Ok(None),
    });
    made.await.result?.with_context(|| format!("the token does not make {algorithm}"))
}

/// What AES-GCM takes in this token's module alone.
pub(crate) async fn alone(conf: &Path, time: Duration) -> Result<Figures> {
    let launch = Launch {
        name: "a".to_owned(),
        arguments: vec![OsString::from("hsm-worker")],
        environment: vec![(OsString::from("SOFTHSM2_CONF"), conf.as_os_str().to_owned())],
        ..Launch::new(MODULE, LABEL, Secret::from(PIN.as_bytes()))
    };
    let pool = started(vec![launch]).await?;
    let [seal, _, _, _] = OPERATIONS;
    make(&pool, seal).await?;
    drop(pool);
    Ok(directly(conf, seal, 8, time)?.figures())
}

/// What goes wrong with one member, and when, from the beginning of the loop.
const FAULTS: [(&str, &str, u64); 3] =
    [("nothing", "", 0), ("kill -9", "-KILL", 2), ("kill -STOP", "-STOP", 5)];
/// When the loop ends.
const END: u64 = 12;
/// As many callers as this, each asking again as soon as it has been answered.
const CALLERS: usize = 16;

/// ECDSA signatures in a closed loop, while one member's worker is killed and later stopped.
async fn faults(pool: &Arc<Pool>, report: &mut Report) -> Result<()> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let pool = Arc::clone(pool);
        tasks.spawn(async move {
            let [_, operation, _, _] = OPERATIONS;
            let sign = Subject { operation, point: Arc::from([]) };
            let mut waits = Vec::with_capacity(1 << 16);
            while begin.elapsed() < Duration::from_secs(END) {
                let from = Instant::now();
                let done = done(&pool, &sign).await.is_ok();
                waits.push((from.duration_since(begin), nanos(from), done));
            }
            waits
        });
    }
    for (_, signal, at) in FAULTS.into_iter().skip(1) {
        tokio::time::sleep_until((begin + Duration::from_secs(at)).into()).await;
        let worker = pool.members().first().and_then(Member::worker).context("no worker")?;
        let sent = Command::new("kill").args([signal, &worker.to_string()]).status()?;
        if !sent.success() {
            bail!("no signal");
        }
    }
    let mut all = Vec::new();
    while let Some(waits) = tasks.join_next().await {
        all.extend(waits?);
    }
    for (place, (what, _, from)) in FAULTS.into_iter().enumerate() {
        let until = FAULTS.get(place + 1).map_or(END, |(_, _, next)| *next);
        let within = |at: Duration| (from..until).contains(&at.as_secs());
        let part = all.iter().filter(|(at, _, _)| within(*at));
        let failed = part.clone().filter(|(_, _, done)| !done).count();
        let mut waits: Vec<u32> = part.map(|(_, wait, _)| *wait).collect();
        waits.sort_unstable();
        let at = |percent| f64::from(percentile(&waits, percent)) / 1e6;
        report.faults.push(FaultRow {
            what: what.to_owned(),
            requests: waits.len(),
            failed,
            p50_ms: at(50),
            p99_ms: at(99),
            longest_ms: waits.last().map_or(0.0, |wait| f64::from(*wait) / 1e6),
        });
    }
    Ok(())
}

/// A token of its own.
pub(crate) fn made(within: &Path) -> Result<Token> {
    let dir = tempfile::Builder::new().prefix("token").tempdir_in(within.canonicalize()?)?;
    Ok(Token::new(dir, LABEL, PIN))
}

/// Operations, their CPU time, and the median of their latencies in microseconds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
}

/// What was measured in a turn, or in several.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Sample {
    /// Nanoseconds of each operation.
    waits: Vec<u32>,
    elapsed: Duration,
    cpu: Duration,
}

impl Sample {
    fn add(&mut self, turn: Self) {
        self.waits.extend(turn.waits);
        self.elapsed += turn.elapsed;
        self.cpu += turn.cpu;
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn figures(mut self) -> Figures {
        self.waits.sort_unstable();
        let count = self.waits.len().max(1) as f64;
        Figures {
            per_second: count / self.elapsed.as_secs_f64(),
            cpu_us: self.cpu.as_secs_f64() * 1e6 / count,
            p50_us: f64::from(percentile(&self.waits, 50)) / 1e3,
        }
    }
}

fn nanos(begin: Instant) -> u32 {
    u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// This binary again, which loads the module.
fn directly(conf: &Path, operation: Operation, at_once: u32, time: Duration) -> Result<Sample> {
    let place = OPERATIONS.iter().position(|other| other.name == operation.name).unwrap_or(0);
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
    // Loading it and logging in are not what is compared.
    let (before, begin) = (machine::cpu_of(std::process::id())?, Instant::now());
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
    let cpu = machine::cpu_of(std::process::id())?.saturating_sub(before);
    let sample = Sample { waits: all?.into_iter().flatten().collect(), elapsed, cpu };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

fn call(session: Session, operation: Operation, stop: &AtomicBool) -> Result<Vec<u32>> {
    let Operation { kind, id, class, .. } = operation;
    let key = session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())])?;
    let key = *key.first().context("no key")?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &TEXT);
    let public = public_half(&session, id)?;
    let mut waits = Vec::with_capacity(1 << 16);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let made = match kind {
            What::Seal => {
                let mut nonce = [9; 12];
                let parameters = GcmParams::new(&mut nonce, b"aad", 128.into())?;
                session.encrypt(&Mechanism::AesGcm(parameters), key, &TEXT)?
            }
            What::Sign => session.sign(&Mechanism::Ecdsa, key, digest.as_ref())?,
            What::SignVerified => {
                let signature = session.sign(&Mechanism::Ecdsa, key, digest.as_ref())?;
                let verifying = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &public);
                verifying.verify(&TEXT, &signature).map_err(|_| anyhow::anyhow!("a wrong signature"))?;
                signature
            }
            What::Decrypt => session.decrypt(&Mechanism::RsaX509, key, &NUMBER)?,
        };
        waits.push(nanos(begin));
        std::hint::black_box(made);
    }
    Ok(waits)
}

/// The point of a key pair's public half; empty where the key has none.
fn public_half(session: &Session, id: Id) -> Result<Vec<u8>> {
    let sought = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id.to_vec())];
    let Some(object) = session.find_objects(&sought)?.first().copied() else { return Ok(vec![]) };
    let found = session.get_attributes(object, &[AttributeType::EcPoint])?;
    let Some(Attribute::EcPoint(point)) = found.first() else { return Ok(vec![]) };
    Ok(point_of(point).to_vec())
}

/// Without the DER octet string around it: tag and length.
fn point_of(public: &[u8]) -> &[u8] {
    public.get(2..).unwrap_or_default()
}

/// A process on each core that takes what nobody else wants, so that none is halted; ended when dropped.
struct Awake(Vec<std::process::Child>);

impl Awake {
    fn start() -> Result<Self> {
        let spin = || Command::new("chrt").args(["--idle", "0", "sh", "-c", "while :; do :; done"]).spawn();
        let cores = thread::available_parallelism()?.get();
        Ok(Self((0..cores).map(|_| spin()).collect::<Result<_, _>>()?))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _gone = child.kill().and_then(|()| child.wait());
        }
    }
}

async fn done(pool: &Pool, Subject { operation, point }: &Subject) -> Result<()> {
    let Operation { kind, id, .. } = *operation;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &TEXT);
    let request = match kind {
        What::Seal => Request::Seal { id, nonce: [9; 12], aad: b"aad", plaintext: &TEXT },
        What::Sign | What::SignVerified => {
            Request::Sign { id, scheme: SignatureScheme::Ecdsa(Hash::Sha256), input: digest.as_ref() }
        }
        What::Decrypt => Request::RsaBare { id, body: &NUMBER },
    };
    let verifies = |signature: &[u8]| {
        let verifying = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        verifying.verify(&TEXT, signature).is_ok()
    };
    let done = pool.ask(&request, PATIENCE, |reply| {
        let Reply::Done(result) = reply else { return Ok(false) };
        Ok(!matches!(kind, What::SignVerified) || verifies(result))
    });
    let done = done.await;
    if !done.result? {
        bail!("the token refuses {request:?}");
    }
    Ok(())
}

async fn pooled(pool: &Arc<Pool>, subject: &Subject, at_once: u32, time: Duration) -> Result<Sample> {
    let workers: Vec<u32> = pool.members().iter().filter_map(Member::worker).collect();
    let used =
        || workers.iter().copied().chain([std::process::id()]).map(machine::cpu_of).sum::<Result<Duration>>();
    let (before, begin) = (used()?, Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        tasks.spawn(request_for(Arc::clone(pool), subject.clone(), begin, time));
    }
    let mut waits = Vec::new();
    while let Some(more) = tasks.join_next().await {
        waits.extend(more??);
    }
    let elapsed = begin.elapsed();
    Ok(Sample { waits, elapsed, cpu: used()?.saturating_sub(before) })
}

async fn request_for(pool: Arc<Pool>, subject: Subject, from: Instant, time: Duration) -> Result<Vec<u32>> {
    let mut waits = Vec::with_capacity(1 << 16);
    while from.elapsed() < time {
        let begin = Instant::now();
        done(&pool, &subject).await?;
        waits.push(nanos(begin));
    }
    Ok(waits)
}
