//! The commands, a file each.

mod adopt;
mod agree;
mod anchor;
mod archive;
mod audit;
mod backup;
mod bind;
mod caller;
mod clock;
mod completions;
mod connect;
mod datakey;
mod decrypt;
mod demo;
mod doctor;
mod drill;
mod emergency;
mod encrypt;
mod hsm_worker;
mod import;
mod init;
mod inventory;
mod kek;
mod key;
mod kubernetes_csi;
mod kubernetes_kms;
mod mac;
mod policy;
mod pool;
mod random;
mod restore;
mod retention;
mod rewrap;
mod root;
mod seal;
mod serve;
mod share;
mod sign;
mod status;
mod tenant;
mod unseal;
mod unwrap;
mod verify;
mod witness;
mod wrap;

use crate::app::App;
use crate::atomic::Target;
use crate::failure::Failure;
use crate::input;
use clap::{Args, Subcommand};
use holdfast_sdk::field::Bytes;
use std::path::PathBuf;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Demo),
    Init(init::Init),
    Serve(serve::Serve),
    Unseal(unseal::Unseal),
    Seal(seal::SealGateway),
    Backup(backup::Backup),
    Restore(restore::Restore),
    /// Rehearse what nobody wants to do for the first time when it matters
    #[command(subcommand)]
    Drill(drill::DrillCommand),
    /// Change the root key itself, or bind it to a device of this machine
    #[command(subcommand)]
    Root(root::RootCommand),
    /// Prove, hand out and use shares of a root key
    #[command(subcommand)]
    Share(share::ShareCommand),
    /// Confirm the gateway's clock after a jump
    #[command(subcommand)]
    Clock(clock::ClockCommand),
    /// Look at the key store's pool of tokens, take a member out, let it in again; an operator's commands
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Let keys work in software for some hours when no token is left, if custodians allow it
    #[command(subcommand)]
    Emergency(emergency::EmergencyCommand),
    /// Create, read, suspend or resume a tenant
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Create keys, and order their life
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Check, publish, read and explain the policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Register callers and issue their tokens
    #[command(subcommand)]
    Caller(caller::CallerCommand),
    /// Say which certificate authorities may name callers
    #[command(subcommand)]
    Anchor(anchor::AnchorCommand),
    /// Verify, prove, follow and search the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Run a witness that cosigns logs
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
    /// Connect a provider: what it needs here, what to paste there, and a test as that provider
    ///
    /// Each command says what it found, a line each: ✓ for what is right, ! for what you should look at, ✗ for what is wrong, with what to do. It ends with 0
    /// where nothing is wrong, and otherwise with the code of the first thing that is (docs/cli.md).
    #[command(subcommand)]
    Connect(connect::ConnectCommand),
    KubernetesKms(kubernetes_kms::KubernetesKms),
    KubernetesCsi(kubernetes_csi::KubernetesCsi),
    Encrypt(encrypt::Encrypt),
    Decrypt(decrypt::Decrypt),
    Wrap(wrap::Wrap),
    Unwrap(unwrap::Unwrap),
    Datakey(datakey::Datakey),
    Rewrap(rewrap::Rewrap),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Mac(mac::Mac),
    Agree(agree::Agree),
    Random(random::Random),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    #[command(hide = true)]
    HsmWorker(hsm_worker::HsmWorker),
}

/// Runs a command.
pub(crate) fn run(command: Command, app: &App) -> Result<(), Failure> {
    match command {
        Command::Demo(demo) => demo.run(app),
        Command::Init(init) => init.run(app),
        Command::Serve(serve) => serve.run(app),
        Command::Unseal(unseal) => unseal.run(app),
        Command::Seal(seal) => seal.run(app),
        Command::Backup(backup) => backup.run(app),
        Command::Restore(restore) => restore.run(app),
        Command::Drill(drill) => drill.run(app),
        Command::Root(root) => root.run(app),
        Command::Share(share) => share.run(app),
        Command::Clock(clock) => clock.run(app),
        Command::Pool(pool) => pool.run(app),
        Command::Emergency(emergency) => emergency.run(app),
        Command::Tenant(tenant) => tenant.run(app),
        Command::Key(key) => key.run(app),
        Command::Policy(policy) => policy.run(app),
        Command::Caller(caller) => caller.run(app),
        Command::Anchor(anchor) => anchor.run(app),
        Command::Audit(audit) => audit.run(app),
        Command::Witness(witness) => witness.run(app),
        Command::Connect(connect) => connect.run(app),
        Command::KubernetesKms(kms) => kms.run(app),
        Command::KubernetesCsi(csi) => csi.run(app),
        Command::Encrypt(encrypt) => encrypt.run(app),
        Command::Decrypt(decrypt) => decrypt.run(app),
        Command::Wrap(wrap) => wrap.run(app),
        Command::Unwrap(unwrap) => unwrap.run(app),
        Command::Datakey(datakey) => datakey.run(app),
        Command::Rewrap(rewrap) => rewrap.run(app),
        Command::Sign(sign) => sign.run(app),
        Command::Verify(verify) => verify.run(app),
        Command::Mac(mac) => mac.run(app),
        Command::Agree(agree) => agree.run(app),
        Command::Random(random) => random.run(app),
        Command::Status(status) => status.run(app),
        Command::Doctor(doctor) => doctor.run(app),
        Command::Completions(completions) => completions.run(),
        Command::HsmWorker(worker) => worker.run(),
    }
}

/// Where the result goes.
#[derive(Debug, Args)]
pub(crate) struct To {
    /// Write the bytes to this file; without it they go to stdout, in base64
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl To {
    /// The place of the bytes.
    fn target(&self) -> Target {
        Target::new(self.output.as_deref(), self.force)
    }

    /// Puts out an answer whose result is bytes: to the file as they are, to stdout in base64 or, for programs, the answer as it came.
    fn put(&self, app: &App, bytes: &[u8], answer: &impl serde::Serialize) -> Result<(), Failure> {
        match &self.output {
            Some(_) => self.target().write(bytes),
            None if app.printer.is_json() => app.printer.product(answer),
            None => app.printer.line(&zeroize::Zeroizing::new(input::encoded(bytes))),
        }
    }
}

/// What bytes are bound to.
#[derive(Debug, Args)]
pub(crate) struct Bound {
    /// Bind to this, which is not secret; the same is needed to open. Several times for several
    #[arg(long, value_name = "NAME=VALUE", value_parser = input::pair)]
    context: Vec<(String, String)>,
}

impl Bound {
    /// As the gateway takes it.
    fn context(&self) -> Result<Option<holdfast_sdk::field::ContextPairs>, Failure> {
        let context = input::context(&self.context)?;
        Ok((!context.is_empty()).then_some(holdfast_sdk::field::ContextPairs(context)))
    }
}

/// Bytes as hex digits.
pub(crate) fn hex(text: &str) -> Result<Bytes, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<_>>();
    bytes.filter(|_| rest.is_empty()).map(Bytes).ok_or_else(|| "expected hex digits, two a byte".to_owned())
}

/// A word of a closed vocabulary on the command line.
fn word<T: holdfast_sdk::field::Vocabulary>(text: &str) -> Result<T, String> {
    T::from_word(text).ok_or_else(|| {
        let words: Vec<_> = T::words().iter().map(|(word, _)| format!("`{word}`")).collect();
        format!("expected one of {}", words.join(", "))
    })
}
