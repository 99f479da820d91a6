//! `root.shares`: what is known in public of the shares of a root key.

use crate::authentic::{Authentic, Authenticator, Mac};
use crate::fault::Fault;
use age::x25519::Recipient;
use holdfast_core::{CallerName, Error, InstanceId};
use holdfast_keystore::root::shamir::MIN_THRESHOLD;
use holdfast_keystore::root::share::{Commitment, Share, Sharing};
use holdfast_keystore::root::{RootKey, SealerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// The version of this file.
const FORMAT: u32 = 1;
/// What its code is bound to.
const NAME: &str = "root.shares";

/// Who has a share, and how each is recognised. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Roster {
    /// What all shares have in common.
    pub of: Sharing,
    /// When they were made, RFC 3339.
    pub made: String,
    /// Whose shares of the earlier generation gave the root key for this one; empty at the founding.
    pub shared_by: Vec<CallerName>,
    /// The custodians, by number of their share.
    pub custodians: Vec<Custodian>,
    /// By whom all this was written: who had the root key. `None` of what an earlier build wrote.
    pub mac: Option<Mac>,
}

/// One custodian of a share.
#[derive(Debug, Clone, PartialEq)]
pub struct Custodian {
    /// What the custodian is called here.
    pub name: CallerName,
    /// To whom the share was encrypted.
    pub recipient: Recipient,
    /// The share's number, from 1.
    pub number: u8,
    /// What the share is recognised by.
    pub commitment: Commitment,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    instance: String,
    generation: u32,
    threshold: u8,
    root: String,
    made: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shared_by: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    custodian: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    recipient: String,
    number: u8,
    commitment: String,
}

impl Roster {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or does not describe shares.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(path).map_err(|error| Fault::io("cannot read", path, error))?;
        Self::parse(&text).map_err(|fault| {
            Fault::new(format!("`{}` is refused", path.display()))
                .remedy("put back the file as `holdfast init` or `holdfast share rotate` wrote it")
                .because(fault)
        })
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let File { format, instance, generation, threshold, root, made, shared_by, mac, custodian } =
            toml::from_str(text).map_err(|error| Fault::new(error.to_string()))?;
        if format != FORMAT {
            return Err(Fault::new(format!("it has format {format}, and this build knows {FORMAT}"))
                .remedy("run the build that last served the directory, or a newer one"));
        }
        let instance: InstanceId =
            instance.parse().map_err(|_| Fault::new(format!("`{instance}` is no instance")))?;
        let root = SealerId::parse(&root).ok_or_else(|| Fault::new("`root` is no name of a root key"))?;
        let custodians: Vec<_> = custodian.into_iter().map(Row::read).collect::<Result<_, _>>()?;
        let distinct = |count: usize| count == custodians.len();
        let names: BTreeSet<_> = custodians.iter().map(|custodian| custodian.name.as_str()).collect();
        let numbers: BTreeSet<_> = custodians.iter().map(|custodian| custodian.number).collect();
        if !distinct(names.len()) || !distinct(numbers.len()) || numbers.contains(&0) {
            return Err(Fault::new("two custodians have one name or one number, or one has the number 0"));
        }
        if generation == 0 || threshold < MIN_THRESHOLD || usize::from(threshold) > custodians.len() {
            return Err(Fault::new(
                "the generation is from 1, the threshold from 2 to the number of custodians",
            ));
        }
        let name =
            |text: String| text.parse().map_err(|_| Fault::new(format!("`{text}` is no custodian's name")));
        Ok(Self {
            of: Sharing { instance, generation, threshold, root },
            made,
            shared_by: shared_by.into_iter().map(name).collect::<Result<_, _>>()?,
            custodians,
            mac: match mac {
                None => None,
                Some(mac) => Some(mac.parse().map_err(|()| Fault::new("`mac` is no code"))?),
            },
        })
    }

    /// The text of the file.
    ///
    /// # Errors
    /// When it cannot be written as text.
    pub fn to_text(&self) -> Result<String, Fault> {
        let file = File { mac: self.mac.as_ref().map(ToString::to_string), ..self.said() };
        toml::to_string(&file)
            .map_err(|error| Fault::new("the list of custodians cannot be written").because(error))
    }

    /// The same list, with its code.
    ///
    /// # Errors
    /// When it cannot be written as text.
    pub(crate) fn signed(self, by: &Authenticator) -> Result<Self, Error> {
        let mac = Some(by.mac(NAME, &self.said())?);
        Ok(Self { mac, ..self })
    }

    /// Whether who wrote it had this root key.
    ///
    /// # Errors
    /// `key-store-unavailable` where its code says that they had not.
    pub fn check(&self, root: &RootKey) -> Result<Authentic, Error> {
        self.check_by(&Authenticator::new(root)?)
    }

    /// The same, for who has no root key at hand.
    ///
    /// # Errors
    /// As [`Roster::check`].
    pub(crate) fn check_by(&self, by: &Authenticator) -> Result<Authentic, Error> {
        by.check(NAME, &self.said(), self.mac)
    }

    /// The same for who makes something new of it: a list without a code is refused.
    ///
    /// # Errors
    /// As [`Roster::check`], and when it has no code.
    pub(crate) fn must_be_of(&self, root: &RootKey) -> Result<(), Fault> {
        match self.check(root)? {
            Authentic::Yes => Ok(()),
            Authentic::Unknown => Err(Self::has_no_code()
                .remedy("if an earlier build wrote it, start the gateway once: it adds the code. Otherwise put the file back as it was written last")),
        }
    }

    /// That there is none.
    pub(super) fn has_no_code() -> Fault {
        Fault::new(
            "`root.shares` has no code of the root key: nothing says that its custodians are those who were meant",
        )
    }

    /// All that it says, but for its code.
    fn said(&self) -> File {
        let Self {
            of: Sharing { instance, generation, threshold, root },
            made,
            shared_by,
            custodians,
            mac: _,
        } = self;
        let row = |custodian: &Custodian| {
            let Custodian { name, recipient, number, commitment } = custodian;
            let commitment = commitment.iter().map(|byte| format!("{byte:02x}")).collect();
            Row { name: name.to_string(), recipient: recipient.to_string(), number: *number, commitment }
        };
        File {
            format: FORMAT,
            instance: instance.to_string(),
            generation: *generation,
            threshold: *threshold,
            root: root.to_string(),
            made: made.clone(),
            shared_by: shared_by.iter().map(ToString::to_string).collect(),
            mac: None,
            custodian: custodians.iter().map(row).collect(),
        }
    }

    /// Whose share this says to be, by its number.
    pub(super) fn holder(&self, share: &Share) -> Option<&Custodian> {
        self.custodians.iter().find(|custodian| custodian.number == share.number())
    }
}

impl Row {
    fn read(self) -> Result<Custodian, Fault> {
        let Self { name, recipient, number, commitment } = self;
        let refused = |what: &str| Fault::new(format!("the {what} of `{name}` is none"));
        let mut hash = [0; 32];
        let is_hex = commitment.len() == 64 && commitment.bytes().all(|b| b.is_ascii_hexdigit());
        for (index, out) in hash.iter_mut().enumerate() {
            let digits = commitment.get(2 * index..2 * index + 2).filter(|_| is_hex);
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            *out = byte.ok_or_else(|| refused("commitment"))?;
        }
        Ok(Custodian {
            recipient: recipient.parse().map_err(|_| refused("recipient"))?,
            number,
            commitment: hash,
            name: name.parse().map_err(|_| Fault::new(format!("`{name}` is no custodian's name")))?,
        })
    }
}
