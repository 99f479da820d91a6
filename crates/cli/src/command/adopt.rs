//! `holdfast key adopt`.

use super::key::{allowed, labelled};
use super::{hex, word};
use crate::app::App;
use crate::failure::Failure;
use crate::input;
use clap::Args;
use holdfast_core::Protocol;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_sdk::KeyName;
use holdfast_sdk::field::{Bytes, LabelMap, LegacyList, LegacyWord, Name, ObjectLabel, Word};
use holdfast_sdk::message::AdoptKey;

/// Take a key that another program made in the token
///
/// It stays as it is and where it is. From then on it is a key of Holdfast: when it is destroyed, its object in the token is. Whatever may still be done with it past Holdfast stands in no audit log.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("object").required(true).multiple(true))]
pub(crate) struct Adopt {
    /// The key's name, which never changes
    key: KeyName,
    /// Its algorithm
    #[arg(long, value_parser = word::<Algorithm>, hide_possible_values = true)]
    algorithm: Algorithm,
    /// The label of its object (CKA_LABEL)
    #[arg(long, value_name = "TEXT", group = "object", value_parser = label)]
    object_label: Option<ObjectLabel>,
    /// The id of its object (CKA_ID)
    #[arg(long, value_name = "HEX", group = "object", value_parser = hex)]
    object_id: Option<Bytes>,
    /// What it is for [default: the algorithm's first purpose]
    #[arg(long, value_parser = word::<Purpose>)]
    purpose: Option<Purpose>,
    /// A legacy operation that it shall be able to do: rsa-pkcs1-decrypt or sha1-oaep
    #[arg(long, value_parser = word::<LegacyWord>)]
    legacy: Vec<LegacyWord>,
    /// A label that policies can speak of
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// The one protocol that it works through, for ever: native, aws-xks, google-cse, ms-dke or azure-ekm [default: each that takes such keys]
    #[arg(long, value_parser = word::<Protocol>)]
    protocol: Option<Protocol>,
    /// How often the key has encrypted before, at most; aes-256-gcm needs it
    #[arg(long, value_name = "COUNT", conflicts_with = "decrypt_only")]
    prior_uses: Option<u64>,
    /// It only decrypts from now on
    #[arg(long)]
    decrypt_only: bool,
    /// Although the token says that its material can leave; this stands in its evidence
    #[arg(long)]
    accept_extractable: bool,
}

fn label(text: &str) -> Result<ObjectLabel, String> {
    match text.len() {
        1..=holdfast_core::adoption::MAX_NAME => Ok(ObjectLabel(text.into())),
        _ => Err(format!("expected 1 to {} bytes", holdfast_core::adoption::MAX_NAME)),
    }
}

impl Adopt {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self {
            key,
            algorithm,
            object_label,
            object_id,
            purpose,
            legacy,
            labels,
            protocol,
            prior_uses,
            decrypt_only,
            accept_extractable,
        } = self;
        let adopt = AdoptKey {
            name: Name(key),
            algorithm: Word(algorithm),
            object_label,
            object_id,
            purpose: purpose.map(Word),
            legacy: Some(LegacyList(allowed(legacy))),
            labels: Some(LabelMap(labelled(labels)?)),
            protocol: protocol.map(Word),
            prior_uses,
            decrypt_only: decrypt_only.then_some(true),
            accept_extractable: accept_extractable.then_some(true),
        };
        let tenant = app.tenant()?;
        app.printer.record(&app.block_on(tenant.adopt_key(&adopt))?.body)
    }
}
