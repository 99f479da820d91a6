//! `holdfast pool kek`: the ceremony by which the tokens of a pool get one wrapping key.

use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::Input;
use crate::output::note;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use holdfast_gateway::config::Config;
use holdfast_gateway::kek::{Fingerprint, Offer, Officer, Place};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use std::io::{self, BufRead as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum KekCommand {
    /// Make the wrapping key in the first token
    Make(At),
    /// Show the fingerprint of a token's wrapping key: it must be the same in every token
    Show(At),
    /// Receive the wrapping key in another token
    ///
    /// Makes a transport key in the token, writes its public half to a file and shows its fingerprint. Then it waits for the line that `send`
    /// wrote, on stdin or in a file. The transport key lives as long as this command runs.
    Receive {
        #[command(flatten)]
        at: At,
        /// Where to write the transport key's public half (PEM), to be taken to the token that has the wrapping key
        #[arg(long, value_name = "FILE")]
        offer: PathBuf,
        /// The wrapping key's fingerprint, as `make` or `show` tell it at the token that has it: never copied beside what is sent. Another
        /// wrapping key is refused
        #[arg(long, value_name = "FINGERPRINT")]
        wrapping_key: Fingerprint,
        /// Wait until this file is there, instead of reading the line from stdin
        #[arg(long, value_name = "FILE")]
        wrapped: Option<PathBuf>,
    },
    /// Send the wrapping key to another token, whose custodian tells the fingerprint that it shows
    ///
    /// Writes one line: the wrapping key, encrypted for that token alone.
    Send {
        #[command(flatten)]
        at: At,
        /// What `receive` wrote there
        #[arg(long, value_name = "FILE")]
        offer: PathBuf,
        /// The fingerprint that `receive` shows there, as its custodian reads it aloud: never copied beside the file
        #[arg(long)]
        fingerprint: Fingerprint,
        /// Write the line to this file instead of stdout
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// At which token.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// The gateway's configuration, which names the tokens
    #[arg(long, value_name = "FILE", default_value = "/etc/holdfast/holdfast.toml")]
    config: PathBuf,
    /// The token, as the configuration calls it
    #[arg(long, value_name = "NAME")]
    member: String,
    /// A file with the PIN of the token's security officer
    #[arg(long, value_name = "FILE")]
    so_pin_file: PathBuf,
    /// Set by itself: the module's environment is in place
    #[arg(long, hide = true)]
    in_place: bool,
}

#[derive(Serialize)]
struct Shown {
    member: String,
    wrapping_key: String,
    fingerprint: String,
}

impl KekCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let at = match &self {
            Self::Make(at) | Self::Show(at) | Self::Receive { at, .. } | Self::Send { at, .. } => at,
        };
        let config = Config::read(&at.config).map_err(|fault| Failure::from(fault).ending(Exit::Usage))?;
        let place =
            Place::find(&config, &at.member).map_err(|fault| Failure::from(fault).ending(Exit::Usage))?;
        if !at.in_place && !place.environment().is_empty() {
            return again(&place);
        }
        let officer = place.officer(&at.so_pin_file)?;
        let shown = |fingerprint: Fingerprint| {
            app.printer.record(&Shown {
                member: at.member.clone(),
                wrapping_key: place.kek.to_owned(),
                fingerprint: fingerprint.to_string(),
            })
        };
        match &self {
            Self::Make(_) => shown(officer.make(place.kek)?),
            Self::Show(_) => shown(officer.fingerprint(place.kek)?),
            Self::Receive { offer, wrapping_key, wrapped, .. } => {
                shown(receive(app, (&officer, &place), (offer, wrapped.as_deref()), *wrapping_key)?)
            }
            Self::Send { offer, fingerprint, output, .. } => {
                let line = format!("{}\n", send(&officer, &place, offer, *fingerprint)?);
                Target::new(output.as_deref(), false).write(line.as_bytes())
            }
        }
    }
}

/// Modules read their settings from the environment when they are loaded: this process begins once more with the one that they need.
fn again(place: &Place<'_>) -> Result<(), Failure> {
    let error = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .arg("--in-place")
        .envs(place.environment())
        .exec();
    Err(Failure::new(Exit::Failure, "this program cannot be started again").because(&error))
}

fn receive(
    app: &App,
    (officer, place): (&Officer, &Place<'_>),
    (offer, wrapped): (&Path, Option<&Path>),
    expected: Fingerprint,
) -> Result<Fingerprint, Failure> {
    let transport = officer.transport(place.kek)?;
    let base64 = STANDARD.encode(transport.offer().spki());
    let lines = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n");
    Target::new(Some(offer), false).write(pem.as_bytes())?;
    note(&format!("transport key: {}", transport.offer().fingerprint()));
    let (offer, how) = (offer.display(), if wrapped.is_some() { "bring" } else { "enter" });
    note(&format!(
        "take `{offer}` to the token that has the wrapping key, tell the fingerprint, and {how} the line that `holdfast pool kek send` writes there"
    ));
    let line = match wrapped {
        Some(path) => app.block_on(appears(path))?,
        None => {
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            read.map_err(|error| Failure::new(Exit::Failure, "stdin cannot be read").because(&error))?;
            line
        }
    };
    let wrapped = STANDARD.decode(line.trim()).ok().filter(|wrapped| !wrapped.is_empty());
    let wrapped = wrapped.ok_or_else(|| {
        Failure::usage("that is not the line that `holdfast pool kek send` writes")
            .remedy("run this again, and send to the new transport key: this one is gone")
    })?;
    Ok(officer.receive(place.kek, (&transport, &wrapped), expected)?)
}

/// A file's text, once it is there.
async fn appears(path: &Path) -> Result<String, Failure> {
    const PAUSE: Duration = Duration::from_millis(200);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => return Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(Failure::file("read", path, &error)),
        }
    }
}

fn send(officer: &Officer, place: &Place<'_>, offer: &Path, told: Fingerprint) -> Result<String, Failure> {
    let pem = Input::File(offer.to_owned()).read()?;
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(&pem).map_err(|_| {
        Failure::usage(format!("`{}` holds no public key", offer.display()))
            .remedy("give the file that `holdfast pool kek receive` wrote")
    })?;
    let offer = Offer::parse(&spki)?;
    if offer.fingerprint() != told {
        let problem =
            format!("the transport key's fingerprint is {}, not the one that was told", offer.fingerprint());
        return Err(Failure::new(Exit::Integrity, problem).remedy(
            "somebody may have put another key in its place: find out who had the file, and let it be made again",
        ));
    }
    Ok(STANDARD.encode(officer.send(place.kek, &offer)?))
}
