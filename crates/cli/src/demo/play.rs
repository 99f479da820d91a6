//! The demo's steps, in their order.

use super::people::{self, Company};
use super::stage::Stage;
use super::{CONTEXT, Narrator, Script, at, wrong};
use crate::failure::Failure;
use holdfast_audit::key::VerifierKey;
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{self, Trusted};
use holdfast_core::ErrorKind;
use holdfast_core::caller::CallerKind;
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_sdk::field::{CertificateBytes, CredentialText, List, Name, Word};
use holdfast_sdk::message::{CreateKey, CreateTenant, NewCaller, PutAnchor, PutCaller};
use holdfast_sdk::{CallerName, Error, KeyName, OperationId, Tenant, TenantId};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the log may take to publish a checkpoint: a second is promised.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn play(script: &Script, stage: &Stage, narrator: &mut Narrator<'_>) -> Result<(), Failure> {
    let tenant: TenantId = "acme".parse()?;
    let key: KeyName = "payroll-records".parse()?;
    let (custodian, pinned) = create_tenant(stage, &tenant, narrator).await?;
    let (payroll, intern) = register_callers(stage, &custodian, narrator).await?;
    create_key(script, &custodian, &key, narrator).await?;

    let (sealed, operation) = encrypt(script, &payroll, &key, narrator).await?;
    decrypt(script, &payroll, &key, &sealed, "decrypt it", narrator).await?;
    refused_as_intern(&intern, &key, &sealed, narrator).await?;
    refused_with_wrong_context(script, &payroll, &key, &sealed, narrator).await?;
    rotate(script, &custodian, &payroll, &key, &sealed, narrator).await?;
    suspend(script, &custodian, &payroll, &key, &sealed, narrator).await?;
    resume(script, &custodian, &payroll, &key, &sealed, narrator).await?;
    let mirror = stage.path("mirror");
    let index = verify_log(script, &custodian, &mirror, &pinned, operation, narrator).await?;
    prove(&mirror, &pinned, index, operation, narrator)
}

/// The operator creates the tenant; its custodian takes the log's key before anything else has happened.
async fn create_tenant(
    stage: &Stage,
    id: &TenantId,
    narrator: &mut Narrator<'_>,
) -> Result<(Tenant, VerifierKey), Failure> {
    let step = "create a tenant";
    let (carol, credential) = people::custodian()?;
    let caller = NewCaller {
        name: Name("carol".parse()?),
        kind: Word(CallerKind::Custodian),
        groups: None,
        credentials: Some(List(vec![credential])),
    };
    let new =
        CreateTenant { tenant: Name(id.clone()), callers: List(vec![caller]), anchors: None, policy: None };
    stage.operator()?.create_tenant(&new).await.map_err(at(step))?;
    let custodian = stage.client(carol.certificate.as_bytes(), carol.key.as_bytes())?.tenant(id.clone());
    custodian.read().await.map_err(at(step))?;
    narrator.done(step, "by the operator: `acme`, whose custodian is `carol`");

    let step = "keep the log's key";
    let line = custodian.log_file("log.vkey").await.map_err(at(step))?;
    let line = String::from_utf8_lossy(&line);
    let key: VerifierKey = line.trim_end().parse().map_err(|error| wrong(step, error))?;
    narrator.done(step, &format!("apart from the log: {}", key.name()));
    Ok((custodian, key))
}

async fn register_callers(
    stage: &Stage,
    custodian: &Tenant,
    narrator: &mut Narrator<'_>,
) -> Result<(Tenant, Tenant), Failure> {
    let step = "register callers";
    let company = Company::new()?;
    let anchor = PutAnchor { certificate: CertificateBytes(company.certificate.clone()), crl: None };
    custodian.put_anchor(&"corporate-ca".parse()?, &anchor).await.map_err(at(step))?;
    let mut callers = vec![];
    for name in ["payroll", "intern"] {
        let uri = format!("spiffe://acme.example/{name}");
        let credential = CredentialText(holdfast_core::caller::Credential::Uri(uri.as_str().into()));
        let caller = PutCaller {
            kind: Word(CallerKind::Application),
            groups: None,
            credentials: Some(List(vec![credential])),
        };
        let name: CallerName = name.parse()?;
        custodian.put_caller(&name, &caller).await.map_err(at(step))?;
        let person = company.issue(&uri)?;
        let client = stage.client(person.certificate.as_bytes(), person.key.as_bytes())?;
        callers.push(client.tenant(custodian.id().clone()));
    }
    narrator.done(step, "`payroll` and `intern`, by certificates of acme's own authority");
    match <[Tenant; 2]>::try_from(callers) {
        Ok([payroll, intern]) => Ok((payroll, intern)),
        Err(_) => Err(wrong(step, "there are not two of them")),
    }
}

async fn create_key(
    script: &Script,
    custodian: &Tenant,
    key: &KeyName,
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    let step = "create a key";
    let new = CreateKey {
        name: Name(key.clone()),
        algorithm: None,
        purpose: None,
        exportable: None,
        legacy: None,
        labels: None,
        prepared: None,
        emergency_copy: None,
        protocol: None,
    };
    let made = custodian.create_key(&new).await.map_err(at(step))?;
    narrator.done(step, &format!("`{key}`, {}, not exportable", made.algorithm.0));

    let step = "publish a policy";
    let before = custodian.policy(None).await.map_err(at(step))?.version;
    let done = custodian.set_policy(&script.policy, Some(before)).await.map_err(at(step))?;
    narrator.done(step, &format!("version {}: `payroll` may use `{key}`, nobody else may", done.version));
    Ok(())
}

async fn encrypt(
    script: &Script,
    payroll: &Tenant,
    key: &KeyName,
    narrator: &mut Narrator<'_>,
) -> Result<(Vec<u8>, OperationId), Failure> {
    let step = "encrypt the README";
    let sealed = payroll.encrypt(key, &script.input, &CONTEXT).await.map_err(at(step))?;
    let operation = sealed.operation.ok_or_else(|| wrong(step, "the answer names no operation"))?;
    let (before, after) = (script.input.len(), sealed.ciphertext.0.len());
    if sealed.ciphertext.0.windows(before.min(32)).any(|window| script.input.starts_with(window)) {
        return Err(wrong(step, "the ciphertext holds the plaintext"));
    }
    narrator.done(step, &format!("as `payroll`: {}, {before} bytes to {after}", script.input_name));
    Ok((sealed.body.ciphertext.0, operation))
}

async fn decrypt(
    script: &Script,
    payroll: &Tenant,
    key: &KeyName,
    sealed: &[u8],
    step: &str,
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    opened(script, payroll, key, sealed, step).await?;
    narrator.done(step, "the same bytes");
    Ok(())
}

/// Decrypts, and compares with what was encrypted; gives the version that opened it.
async fn opened(
    script: &Script,
    payroll: &Tenant,
    key: &KeyName,
    sealed: &[u8],
    step: &str,
) -> Result<u32, Failure> {
    let opened = payroll.decrypt(key, sealed, &CONTEXT).await.map_err(at(step))?;
    if opened.plaintext.0.expose() != script.input {
        return Err(wrong(step, "what was decrypted is not what was encrypted"));
    }
    Ok(opened.key_version.0.get())
}

/// What must be refused, and as what.
pub(super) fn refused<T>(
    step: &str,
    outcome: Result<T, Error>,
    as_one_of: &[ErrorKind],
) -> Result<Error, Failure> {
    match outcome {
        Err(error) if error.kind().is_some_and(|kind| as_one_of.contains(&kind)) => Ok(error),
        Err(error) => {
            let expected: Vec<_> = as_one_of.iter().map(|kind| kind.code()).collect();
            Err(wrong(
                step,
                format!("should have been refused as `{}`, but: {error}", expected.join("` or `")),
            ))
        }
        Ok(_) => Err(wrong(step, "should have been refused, and was not")),
    }
}

async fn refused_as_intern(
    intern: &Tenant,
    key: &KeyName,
    sealed: &[u8],
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    let step = "refused: not allowed";
    let outcome = intern.decrypt(key, sealed, &CONTEXT).await;
    let error = refused(step, outcome, &[ErrorKind::Denied])?;
    narrator.done(step, &format!("as `intern`: {error}"));
    Ok(())
}

async fn refused_with_wrong_context(
    script: &Script,
    payroll: &Tenant,
    key: &KeyName,
    sealed: &[u8],
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    let step = "refused: wrong context";
    let outcome = payroll.decrypt(key, sealed, &script.wrong_context).await;
    let error = refused(step, outcome, &[ErrorKind::Integrity])?;
    narrator.done(step, &format!("as `payroll`: {error}"));
    Ok(())
}

async fn rotate(
    script: &Script,
    custodian: &Tenant,
    payroll: &Tenant,
    key: &KeyName,
    sealed: &[u8],
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    let step = "rotate the key";
    let rotated = custodian.rotate_key(key).await.map_err(at(step))?.newest_version.0.get();
    let new = payroll.encrypt(key, &script.input, &CONTEXT).await.map_err(at(step))?.key_version.0.get();
    let old = opened(script, payroll, key, sealed, step).await?;
    if (rotated, new, old) != (2, 2, 1) {
        return Err(wrong(step, format!("new work took version {new} and the old file version {old}")));
    }
    narrator.done(step, "new work takes version 2; the old file still opens, with version 1");
    Ok(())
}

async fn suspend(
    script: &Script,
    custodian: &Tenant,
    payroll: &Tenant,
    key: &KeyName,
    sealed: &[u8],
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    let step = "suspend the key";
    let ordered = Instant::now();
    let acknowledged = if script.suspends {
        let suspended = custodian.transition_key(key, Transition::Suspend).await.map_err(at(step))?;
        if suspended.state.0 != KeyState::Suspended {
            return Err(wrong(step, format!("the key is {}", suspended.state.0)));
        }
        ordered.elapsed()
    } else {
        Duration::ZERO
    };
    let outcome = payroll.decrypt(key, sealed, &CONTEXT).await;
    let refused_after = ordered.elapsed();
    let error = refused(step, outcome, &[ErrorKind::KeyState, ErrorKind::Stopped])?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    narrator.done(
        step,
        &format!(
            "in force {:.1} ms after the order; refused {:.1} ms after it: {error}",
            millis(acknowledged),
            millis(refused_after)
        ),
    );
    Ok(())
}

async fn resume(
    script: &Script,
    custodian: &Tenant,
    payroll: &Tenant,
    key: &KeyName,
    sealed: &[u8],
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    let step = "resume it";
    custodian.transition_key(key, Transition::Resume).await.map_err(at(step))?;
    opened(script, payroll, key, sealed, step).await?;
    narrator.done(step, "the file opens again");
    Ok(())
}

/// Mirrors the log until it covers an operation, verifies all of it offline, and gives that operation's index.
async fn verify_log(
    script: &Script,
    custodian: &Tenant,
    mirror: &Path,
    pinned: &VerifierKey,
    operation: OperationId,
    narrator: &mut Narrator<'_>,
) -> Result<u64, Failure> {
    let step = "verify the log offline";
    let since = Instant::now();
    let index = loop {
        let covered = match custodian.mirror_log(mirror, |_| {}).await {
            Ok(_) => index_of(mirror, operation).map_err(|failure| wrong(step, failure))?,
            // A young log has no checkpoint yet.
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => None,
            Err(error) => return Err(at(step)(error)),
        };
        if let Some(index) = covered {
            break index;
        }
        if since.elapsed() > CHECKPOINT_PATIENCE {
            return Err(wrong(step, "no checkpoint covers the encryption"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    if script.damages_log {
        damage(mirror).map_err(|error| wrong(step, error))?;
    }
    let trusted = Trusted { key: Some(pinned.clone()), ..Trusted::default() };
    let report = verify::verify(mirror, &trusted, |_, _| {}).map_err(|error| wrong(step, error))?;
    if report.key != verify::Trust::Outside {
        return Err(wrong(step, "the key was taken from beside the log"));
    }
    narrator.done(step, &format!("{} entries, by the key kept apart", report.checkpoint.size));
    Ok(index)
}

/// Where an operation's record stands in a mirrored log, if its checkpoint covers it.
fn index_of(mirror: &Path, operation: OperationId) -> Result<Option<u64>, Failure> {
    let reader = LogReader::open(mirror)?;
    let wanted = operation.to_string();
    for entry in reader.entries(0) {
        let (index, entry) = entry?;
        let event: serde_json::Value = serde_json::from_slice(&entry).unwrap_or_default();
        if event.get("operation").and_then(serde_json::Value::as_str) == Some(&wanted) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Changes one byte in the first bundle of entries that lies there.
fn damage(mirror: &Path) -> std::io::Result<()> {
    let bundles = mirror.join("tile/entries");
    let mut pending = vec![bundles];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        if let Some(byte) = bytes.get_mut(20) {
            *byte ^= 1;
        }
        std::fs::write(&path, bytes)?;
    }
    Ok(())
}

fn prove(
    mirror: &Path,
    pinned: &VerifierKey,
    index: u64,
    operation: OperationId,
    narrator: &mut Narrator<'_>,
) -> Result<(), Failure> {
    let step = "prove one operation";
    let reader = LogReader::open(mirror).map_err(at(step))?;
    let proof = reader.prove(index, None).map_err(at(step))?.to_string();
    let entry = reader.entry(index).map_err(at(step))?;
    verify::verify_proof(proof.as_bytes(), &entry, pinned).map_err(|error| wrong(step, error))?;
    let mut changed = entry;
    changed.push(b' ');
    if verify::verify_proof(proof.as_bytes(), &changed, pinned).is_ok() {
        return Err(wrong(step, "the proof fits an entry that is not in the log"));
    }
    narrator.done(step, &format!("the encryption, {operation}, is entry {index}"));
    Ok(())
}
