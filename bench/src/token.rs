//! A token of SoftHSM2: its module called directly, by as many threads with a session each, and through a pool of two worker processes. The same
//! keys, the same process time.

use crate::Turns;
use crate::machine;
use crate::module::{self, LABEL, NUMBER, OPERATIONS, Operation, PIN, Subject, TEXT, What};
use crate::report::{FaultRow, Report, TokenRow, percentile};
use crate::sample::{Sample, Spread, nanos};
use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
pub(crate) use holdfast_conformance::softhsm::MODULE;
use holdfast_conformance::softhsm::Token;
use holdfast_core::Secret;
use holdfast_core::algorithm::{Hash, SignatureScheme};
use holdfast_keystore::pkcs11::message::{Id, Reply, Request};
use holdfast_keystore::pkcs11::{Distribution, Launch, Member, Pool};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The deadline that a gateway has.
const PATIENCE: Duration = Duration::from_millis(120);
/// A public key's uncompressed point; empty for what is not on a curve.
type Point = Arc<[u8]>;

/// One at a time, and so many at once.
const AT_ONCE: [u32; 2] = [1, 8];

/// Whether there is a module to measure.
pub(crate) fn is_there() -> bool {
    Path::new(MODULE).is_file()
}

/// Measures, with a token of its own.
pub(crate) async fn measure(within: &Path, turns: Turns, report: &mut Report) -> Result<()> {
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
            report.tokens.push(row(&pool, &conf, subject(operation), operation.name, at_once, turns).await?);
        }
    }
    // One at a time, what is added is mostly how long a processor that was halted takes to wake.
    let awake = Awake::start()?;
    for operation in OPERATIONS {
        let name = format!("{}, awake", operation.name);
        report.tokens.push(row(&pool, &conf, subject(operation), &name, 1, turns).await?);
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
    turns: Turns,
) -> Result<TokenRow> {
    let [mut direct, mut apart, mut through] = std::array::from_fn(|_| Sample::default());
    let failed = || pool.reports().iter().map(|member| member.failed).sum::<u64>();
    let repeated = || pool.repeats().0 + pool.repeats().1;
    let (failed_before, repeated_before) = (failed(), repeated());
    let [mut apart_beyond, mut through_beyond] = [vec![], vec![]];
    // The module and the pool take turns, so that what else the machine is at meets both.
    for _ in 0..turns.count {
        let module = module::directly(conf, &subject, at_once, turns.each)?;
        let bare = module::apart(conf, &subject, at_once, turns.each)?;
        let pooled = pooled(pool, &subject, at_once, turns.each).await?;
        apart_beyond.push(bare.cpu_us() - module.cpu_us());
        through_beyond.push(pooled.cpu_us() - module.cpu_us());
        direct.add(module);
        apart.add(bare);
        through.add(pooled);
    }
    let [apart_beyond, through_beyond] = [apart_beyond, through_beyond].map(Spread::of);
    let [direct, apart, through] = [direct, apart, through].map(Sample::figures);
    // A pool in which something fails is not what is measured.
    ensure!(failed() == failed_before, "a member failed {} times at {name}", failed() - failed_before);
    let repeated = repeated() - repeated_before;
    let operation = name.to_owned();
    Ok(TokenRow { operation, at_once, direct, apart, through, apart_beyond, through_beyond, repeated })
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

/// What AES-GCM takes in this token's module alone, 8 at once.
pub(crate) struct Alone<'a> {
    conf: &'a Path,
    seal: Subject,
}

impl Alone<'_> {
    /// One turn of it.
    pub(crate) fn turn(&self, time: Duration) -> Result<Sample> {
        module::directly(self.conf, &self.seal, 8, time)
    }
}

/// Makes the key that it takes.
pub(crate) async fn alone(conf: &Path) -> Result<Alone<'_>> {
    let launch = Launch {
        name: "a".to_owned(),
        arguments: vec![OsString::from("hsm-worker")],
        environment: vec![(OsString::from("SOFTHSM2_CONF"), conf.as_os_str().to_owned())],
        ..Launch::new(MODULE, LABEL, Secret::from(PIN.as_bytes()))
    };
    let pool = started(vec![launch]).await?;
    let [seal, _, _, _] = OPERATIONS;
    let point = make(&pool, seal).await?;
    drop(pool);
    Ok(Alone { conf, seal: Subject { operation: seal, point } })
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

async fn done(pool: &Pool, subject: &Subject) -> Result<()> {
    let Operation { kind, id, .. } = subject.operation;
    let digest = digest(&SHA256, &TEXT);
    let request = match kind {
        What::Seal => Request::Seal { id, nonce: [9; 12], aad: b"aad", plaintext: &TEXT },
        What::Sign | What::SignVerified => {
            Request::Sign { id, scheme: SignatureScheme::Ecdsa(Hash::Sha256), input: digest.as_ref() }
        }
        What::Decrypt => Request::RsaBare { id, body: &NUMBER },
    };
    let done = pool.ask(&request, PATIENCE, |reply| match reply {
        Reply::Done(result) => Ok(subject.accepts(result)),
        Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => Ok(false),
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
