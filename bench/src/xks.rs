//! An external key store of AWS KMS with its keys in a token of SoftHSM2: TLS, signatures, policy, durable records, everything on.

use crate::gateway::{self, Gateway};
use crate::load::{Exchange, Measured};
use crate::report::{Report, Sum, XksRow};
use crate::sample::{Sample, Spread};
use crate::{Turns, module, token};
use anyhow::{Context as _, Result};
use holdfast_conformance::softhsm::Token;
use holdfast_core::{Secret, Timestamp};
use holdfast_wire::sigv4::Signer;
use holdfast_wire::xks::SERVICE;
use std::path::Path;
use std::time::{Duration, SystemTime};

const REGION: &str = "eu-central-1";
/// What the provider allows a store unless asked for more.
const PROVIDERS: u32 = 1800;
const SAID: &str = r#""requestMetadata":{"kmsRequestId":"b7c1a0d4-2f65-4f0e-9f0c-0a6f9e1d3b58","kmsOperation":"GenerateDataKey","awsPrincipalArn":"arn:aws:iam::111122223333:role/PayrollApp","kmsKeyArn":"arn:aws:kms:eu-central-1:111122223333:key/9f0c1d2e-3b4a-4c5d-8e6f-708192a3b4c5","kmsViaService":"s3.eu-central-1.amazonaws.com"},"plaintext":"d3JhcCBtZTogMzItYnl0ZSBkYXRhIGtleSBoZXJlISE=","additionalAuthenticatedData":"ZGVwdD1wYXlyb2xsLGVudj1wcm9k","encryptionAlgorithm":"AES_GCM""#;
const POLICY: &str = r#"
@id("aws")
permit (principal == Holdfast::Caller::"aws", action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt"], resource)
when { context.protocol == "aws-xks" && context.request.hasTag("kmsKeyArn") && context.request.getTag("kmsKeyArn") like "arn:aws:kms:*:111122223333:key/*" };
"#;

/// A gateway over a token of its own.
struct Store {
    _token: Token,
    gateway: Gateway,
    plain: Exchange,
    checked: Exchange,
}

/// Measures, with a token of its own; another build in turns with this one.
pub(crate) async fn measure(
    (holdfast, against): (&Path, Option<&Path>),
    within: &Path,
    (connections, turns): (&[usize], Turns),
    report: &mut Report,
) -> Result<()> {
    let token = token::made(within)?;
    let conf = token.conf();
    let alone = token::alone(&conf).await?;
    let mut stores = vec![("", started(holdfast, within, token).await?)];
    if let Some(other) = against {
        let within = within.join("other");
        std::fs::create_dir(&within)?;
        stores.push(("the other: ", started(other, &within, token::made(&within)?).await?));
    }
    for (name, has_cdiv) in [("XKS encrypt", false), ("XKS encrypt, CDIV", true)] {
        for connections in connections.iter().copied() {
            let mut tallies: Vec<_> = stores.iter().map(|_| Tally::default()).collect();
            for turn in 0..=turns.count {
                for ((_, store), tally) in stores.iter().zip(&mut tallies) {
                    let module = alone.turn(turns.each / 2)?;
                    let measured =
                        store.gateway.turn(store.exchange(has_cdiv), connections, turns.each).await?;
                    // The first is thrown away: caches, allocator and TCP windows as in the middle of a day.
                    if turn > 0 {
                        tally.add(module, measured);
                    }
                }
            }
            for ((other, _), tally) in stores.iter().zip(tallies) {
                report.xks.push(tally.row(&format!("{other}{name}"), connections));
            }
        }
        for (other, store) in &stores {
            let mut tally = Tally::default();
            let module = alone.turn(turns.each)?;
            tally.add(
                module,
                store.gateway.steady(store.exchange(has_cdiv), (32, PROVIDERS), turns.all()).await?,
            );
            report.xks.push(tally.row(&format!("{other}{name}, {PROVIDERS}/s"), 32));
        }
    }
    Ok(())
}

impl Store {
    fn exchange(&self, has_cdiv: bool) -> &Exchange {
        if has_cdiv { &self.checked } else { &self.plain }
    }
}

async fn started(holdfast: &Path, within: &Path, token: Token) -> Result<Store> {
    let config = within.join("xks.toml");
    std::fs::write(
        &config,
        format!(
            "[[token]]\nmodule = \"{}\"\nlabel = \"{}\"\npin_file = \"{}\"\nenvironment = {{ SOFTHSM2_CONF = \"{}\" }}\n\
             [[aws_xks]]\nprefix = \"/bench\"\ntenant = \"dev\"\ncaller = \"aws\"\nregions = [\"{REGION}\"]\nrequests_per_second = 0\n",
            token::MODULE,
            module::LABEL,
            pin_file(within)?.display(),
            token.conf().display(),
        ),
    )?;
    let gateway = gateway::start_with(holdfast, &within.join("xks"), Some(&config.canonicalize()?)).await?;
    let [plain, checked] = exchanges(&gateway).await?;
    Ok(Store { _token: token, gateway, plain, checked })
}

/// What the module alone and the gateway took in turns.
#[derive(Default)]
struct Tally {
    module: Sample,
    gateway: Sum,
    beyond: Vec<f64>,
}

impl Tally {
    fn add(&mut self, module: Sample, (measured, cpu): (Measured, Duration)) {
        self.beyond.push(measured.cpu_us(cpu) - module.cpu_us());
        self.module.add(module);
        self.gateway.add(measured, cpu);
    }

    fn row(self, name: &str, connections: usize) -> XksRow {
        XksRow {
            row: self.gateway.row(name, connections),
            module_cpu_us: self.module.cpu_us(),
            beyond: Spread::of(self.beyond),
        }
    }
}

fn pin_file(within: &Path) -> Result<std::path::PathBuf> {
    let path = within.join("xks-pin");
    std::fs::write(&path, module::PIN)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(path.canonicalize()?)
}

/// When the signatures are from, so that they outlast what is measured.
#[expect(clippy::disallowed_methods, reason = "a client has no request to take the time of")]
fn signed_at() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Timestamp::from_micros(u64::try_from(since.as_micros())?).plus_seconds(200))
}

/// A key, a caller, a policy and a credential; then requests signed with it, good for five minutes.
async fn exchanges(gateway: &Gateway) -> Result<[Exchange; 2]> {
    gateway.create(["payroll".to_owned()].into_iter(), "aes-256-gcm").await?;
    gateway.ask("PUT", "/callers/aws", r#"{"kind":"application"}"#).await?;
    let policy = gateway.ask("GET", "/policy", "").await?;
    let text = policy.get("text").and_then(|text| text.as_str()).context("no policy")?.to_owned() + POLICY;
    gateway.ask("PUT", "/policy", &serde_json::json!({ "text": text }).to_string()).await?;
    let issued = gateway.ask("POST", "/callers/aws/signing-tokens", r#"{"lifetime_seconds":86400}"#).await?;
    let of = |field: &str| issued.get(field).and_then(|text| text.as_str()).context("no credential");
    let secret = Secret::new(of("secret_access_key")?.as_bytes().to_vec());
    let signer = Signer {
        access_key_id: of("access_key_id")?,
        secret_access_key: &secret,
        region: REGION,
        service: SERVICE,
        now: signed_at()?,
    };
    let (host, path) = (gateway.target.address.to_string(), "/bench/kms/xks/v1/keys/payroll/encrypt");
    let exchange = |more: &str| {
        let body = format!("{{{SAID}{more}}}");
        let (date, authorization) = signer.sign((&host, path), body.as_bytes());
        let headers = format!("x-amz-date: {date}\r\nauthorization: {authorization}\r\n");
        Exchange::with_headers("POST", path, &host, &headers, &body)
    };
    Ok([exchange(""), exchange(r#","ciphertextDataIntegrityValueAlgorithm":"SHA_256""#)])
}
