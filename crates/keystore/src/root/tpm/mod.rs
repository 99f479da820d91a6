//! The root key sealed by a TPM 2.0, bound to what the machine has measured of its own start.
//!
//! A sealed object (TPM 2.0 Library, part 1 §12.5) under the TPM's storage primary key: it can be loaded into this one TPM, and its only
//! authorisation is a policy of platform configuration registers (PolicyPCR, part 3 §23.7). What is kept outside is public.

mod tools;
mod words;

pub use words::{Bank, MAX_PCRS, Pcrs, Place};

use super::{ROOT_KEY_LEN, RootKey};
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use tools::{Scratch, Tool};

/// The storage primary key (TCG EK Credential Profile's SRK template on P-256): the TPM makes the same one again from its owner seed.
const PRIMARY: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda";
/// The sealed object: never leaves its TPM, opens by its policy alone, and wrong attempts lock nothing.
const SEALED: &str = "fixedtpm|fixedparent|noda";
/// Longer than any name (an algorithm's number and a digest) or blob.
const MAX_FILE: usize = 4096;

/// What a register held, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The register's number.
    pub index: u8,
    /// Its value.
    pub value: String,
}

impl Measured {
    /// Whether nothing was ever measured into it.
    pub fn is_blank(&self) -> bool {
        self.value.bytes().all(|digit| digit == b'0')
    }
}

/// A sealed root key: of no use without its TPM, and nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Where the TPM is.
    pub place: Place,
    /// The name of its storage primary key: what the TPM is told from others by.
    pub parent: Vec<u8>,
    /// The registers that it is bound to.
    pub pcrs: Pcrs,
    /// What they held. Only to say which have changed: the policy is in the object.
    pub measured: Vec<Measured>,
    /// The object's public part.
    pub public: Vec<u8>,
    /// The object's private part, encrypted by the TPM.
    pub private: Vec<u8>,
}

/// Seals a root key to a TPM as the machine is now, and opens it once to see that it does.
///
/// # Errors
/// `key-store-unavailable`, when the TPM or its tools cannot be used.
pub fn seal(root: &RootKey, place: &Place, pcrs: &Pcrs) -> Result<Sealed, Error> {
    let tpm = Tpm::at(place)?;
    let parent = tpm.primary()?;
    let measured = tpm.measured(pcrs)?;
    tpm.run(Tool::new("tpm2_startauthsession").option("-g", "sha256").file("-S", "trial"))?;
    tpm.run(
        Tool::new("tpm2_policypcr").file("-S", "trial").option("-l", &pcrs.to_string()).file("-L", "policy"),
    )?;
    tpm.run(Tool::new("tpm2_flushcontext").operand("trial"))?;
    tpm.encrypting_session("--hmac-session")?;
    tpm.run(
        Tool::new("tpm2_create")
            .file("-C", "primary")
            .file("-L", "policy")
            .option("-a", SEALED)
            .option("-g", "sha256")
            .option("-i", "-")
            .file("-S", "session")
            .file("-u", "public")
            .file("-r", "private")
            .stdin(root.expose()),
    )?;
    tpm.run(Tool::new("tpm2_flushcontext").operand("session"))?;
    let sealed = Sealed {
        place: place.clone(),
        parent,
        pcrs: pcrs.clone(),
        measured,
        public: tpm.scratch.read("public", MAX_FILE)?,
        private: tpm.scratch.read("private", MAX_FILE)?,
    };
    let opened = tpm.open(&sealed)?;
    if opened.id()? != root.id()? {
        return Err(unavailable("the TPM gave another root key back than it was given")
            .remedy("nothing was changed; look at the TPM, and do not use it"));
    }
    Ok(sealed)
}

/// Opens a sealed root key.
///
/// # Errors
/// `key-store-unavailable`, which says whether it is another TPM, other registers, a damaged object, or no TPM at all.
pub fn unseal(sealed: &Sealed) -> Result<RootKey, Error> {
    let tpm = Tpm::at(&sealed.place)?;
    let parent = tpm.primary()?;
    if parent != sealed.parent {
        return Err(unavailable(
            "this is another TPM than the one that the root key was sealed by, or it was cleared since",
        )
        .remedy("start on the machine that it was sealed on"));
    }
    tpm.open(sealed)
}

/// What these registers hold now.
///
/// # Errors
/// `key-store-unavailable`, when the TPM or its tools cannot be used.
pub fn measured(place: &Place, pcrs: &Pcrs) -> Result<Vec<Measured>, Error> {
    Tpm::at(place)?.measured(pcrs)
}

/// A TPM that is being spoken to.
struct Tpm<'a> {
    place: &'a Place,
    scratch: Scratch,
}

impl<'a> Tpm<'a> {
    fn at(place: &'a Place) -> Result<Self, Error> {
        Ok(Self { place, scratch: Scratch::make()? })
    }

    fn run(&self, tool: Tool<'_>) -> Result<Secret, Error> {
        let said = tool.run(self.place, &self.scratch)?;
        // A resource manager forgets what its caller loaded; without one nobody does.
        if !self.place.is_managed() {
            Tool::new("tpm2_flushcontext").flag("-t").run(self.place, &self.scratch)?;
        }
        Ok(said)
    }

    /// Makes the storage primary key, and gives its name.
    fn primary(&self) -> Result<Vec<u8>, Error> {
        self.run(
            Tool::new("tpm2_createprimary")
                .option("-C", "o")
                .option("-G", "ecc256")
                .option("-g", "sha256")
                .option("-a", PRIMARY)
                .file("-c", "primary"),
        )?;
        self.run(Tool::new("tpm2_readpublic").file("-c", "primary").file("-n", "name"))?;
        self.scratch.read("name", MAX_FILE)
    }

    /// A session whose first parameters are encrypted under a salt that only the primary key opens, so that whoever listens on the way to the
    /// TPM reads no root key.
    fn encrypting_session(&self, kind: &str) -> Result<(), Error> {
        self.run(
            Tool::new("tpm2_startauthsession")
                .flag(kind)
                .option("-g", "sha256")
                .file("--tpmkey-context", "primary")
                .file("-S", "session"),
        )?;
        self.run(
            Tool::new("tpm2_sessionconfig")
                .flag("--enable-encrypt")
                .flag("--enable-decrypt")
                .flag("--enable-continuesession")
                .operand("session"),
        )?;
        Ok(())
    }

    fn open(&self, sealed: &Sealed) -> Result<RootKey, Error> {
        self.scratch.write("public", &sealed.public)?;
        self.scratch.write("private", &sealed.private)?;
        self.run(
            Tool::new("tpm2_load")
                .file("-C", "primary")
                .file("-u", "public")
                .file("-r", "private")
                .file("-c", "object"),
        )
        .map_err(|error| {
            unavailable("the TPM does not take the sealed root key: it is damaged")
                .remedy("put `root.tpm` back as it was written last")
                .because(error.chain())
        })?;
        self.encrypting_session("--policy-session")?;
        self.run(Tool::new("tpm2_policypcr").file("-S", "session").option("-l", &sealed.pcrs.to_string()))?;
        let opened = self.run(
            Tool::new("tpm2_unseal").aloud().file("-c", "object").prefixed_file("-p", "session:", "session"),
        );
        let flushed = self.run(Tool::new("tpm2_flushcontext").operand("session"));
        let secret = opened.map_err(|error| self.refusal(sealed, &error))?;
        flushed?;
        if secret.len() != ROOT_KEY_LEN {
            return Err(unavailable("what the TPM gave is no root key")
                .remedy("put `root.tpm` back as it was written last"));
        }
        RootKey::new(secret)
    }

    /// Why the TPM did not open it, as far as that can be seen.
    fn refusal(&self, sealed: &Sealed, error: &Error) -> Error {
        let now = self.measured(&sealed.pcrs).unwrap_or_default();
        let differs =
            |then: &&Measured| now.iter().any(|now| now.index == then.index && now.value != then.value);
        let changed: Vec<_> =
            sealed.measured.iter().filter(differs).map(|measured| measured.index.to_string()).collect();
        let detail = match changed.as_slice() {
            [] => "the TPM refuses to open the root key".to_owned(),
            changed => format!(
                "the TPM refuses to open the root key: the machine started in another way than when it was bound (PCR {} of {} changed)",
                changed.join(", "),
                sealed.pcrs.bank()
            ),
        };
        unavailable(detail)
            .remedy("if firmware, boot loader or Secure Boot keys were changed on purpose, go on; if not, somebody may have tampered with the machine")
            .because(error.chain())
    }

    /// What the registers hold.
    fn measured(&self, pcrs: &Pcrs) -> Result<Vec<Measured>, Error> {
        let said = self.run(Tool::new("tpm2_pcrread").aloud().operand_text(&pcrs.to_string()))?;
        let text = String::from_utf8_lossy(said.expose()).into_owned();
        let found = words::read_measured(&text);
        if found.iter().map(|measured| measured.index).eq(pcrs.indexes().iter().copied()) {
            return Ok(found);
        }
        Err(unavailable(format!("the TPM does not keep the registers `{pcrs}`"))
            .remedy("choose others with `--pcrs`; `tpm2_getcap pcrs` lists those that it keeps"))
    }
}

fn unavailable(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
}
