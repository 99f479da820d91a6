//! One gateway that speaks several protocols, one key that those may use which have none of their own, and one of each protocol that has: what is made through
//! one opens through no other, whatever it is put into.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "what fails here is a test"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_gateway::google_cse::GoogleCseTable;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::api::{Api, T, base64, bytes};
use support::authority::Authority;
use support::cse::{self, DEK, drive, unwrap, user, with, wrap};
use support::dke;
use support::ekm;
use support::issuer::{self, Signer, key_set, now};
use support::peer::Peer;
use support::xks::{self, Kms, decrypt, encrypt};
use support::{Answer, Dev};

/// Random 96-bit nonces everywhere, so that a body of one protocol has the length of every other's.
const KEY: &str = "payroll";
/// The keys of the protocols that take no others: Azure's, and Microsoft's key service's.
const OWN: &str = "own";
const DKE: &str = "legal-hold";
/// Nonce, data encryption key, tag.
const BODY: usize = 12 + 32 + 16;
/// A data encryption key, wrapped.
const WRAPPED: usize = 32 + 8;
/// The same, encrypted for a public half.
const SEALED: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    Native,
    /// With an encryption context that begins as the bindings of protocols do.
    NativeInContext,
    AwsXks,
    GoogleCse,
    AzureEkm,
    MsDke,
}

impl Through {
    const ALL: [Self; 6] =
        [Self::Native, Self::NativeInContext, Self::AwsXks, Self::GoogleCse, Self::AzureEkm, Self::MsDke];

    /// The key that it uses.
    const fn key(self) -> &'static str {
        match self {
            Self::Native | Self::NativeInContext | Self::AwsXks | Self::GoogleCse => KEY,
            Self::AzureEkm => OWN,
            Self::MsDke => DKE,
        }
    }

    /// How long what it makes of a data encryption key is, without what stands around it.
    const fn length(self) -> usize {
        match self {
            Self::Native | Self::NativeInContext | Self::AwsXks | Self::GoogleCse => BODY,
            Self::AzureEkm => WRAPPED,
            Self::MsDke => SEALED,
        }
    }
}

/// A ciphertext as a protocol has it: what stands around the body, and the body, nonce ‖ ciphertext ‖ tag, or what key wrap or a public half gives.
#[derive(Debug, Clone)]
struct Made {
    head: Vec<u8>,
    body: Vec<u8>,
}

struct Several {
    gateway: Dev,
    api: Api,
    kms: Kms,
    peer: Peer,
    azure: Peer,
    office: Office,
}

/// Somebody whose documents a key service opens.
struct Office {
    signer: Signer,
    peer: Peer,
    /// Where the key decrypts.
    place: String,
}

impl Several {
    async fn new(directory: &std::path::Path) -> Self {
        let mut config = cse::config(
            directory,
            GoogleCseTable { key: KEY.to_owned(), perimeter_keys: BTreeMap::new(), ..cse::table() },
        );
        config.aws_xks = vec![xks::table("/acme", "aws")];
        let microsoft = Authority::new("Microsoft");
        config.azure_ekm = vec![ekm::table(directory.parent().unwrap(), &microsoft, "/ekm", "azure-ekm")];
        let (signer, keys) = (Signer::new("one"), directory.parent().unwrap().join("entra.json"));
        std::fs::write(&keys, key_set(&[&signer])).unwrap();
        config.issuer.push(issuer::table(dke::ISSUER, &["holdfast"], "EdDSA", &keys));
        config.ms_dke = vec![dke::table(&[DKE])];
        let (gateway, mut api) = cse::gateway_of(config).await;
        dke::register(&mut api).await;
        dke::create(&mut api, DKE).await;
        ekm::register(&mut api, &["azure-ekm"]).await;
        ekm::create(&mut api, OWN, "aes-256-kw", &[]).await;
        api.put(&format!("{T}/callers/aws"), &json!({"kind": "application"})).await.expect(200);
        api.create(&json!({"name": KEY, "algorithm": "aes-256-gcm", "purpose": "encrypt"})).await;
        // No policy stands between protocols here.
        let policy = api.get(&format!("{T}/policy")).await.expect(200).text("text")
            + "@id(\"all\") permit (principal, action in Holdfast::Action::\"use\", resource) when { principal.kind == \"application\" };";
        api.put(&format!("{T}/policy"), &json!({"text": policy})).await.expect(200);
        let kms = Kms::of(&mut api, "aws", "/acme").await;
        let peer = gateway.stranger().await;
        let azure = ekm::connect(&gateway, &microsoft.issue_named(None, ekm::POOL, 5)).await;
        let mut office = Office { signer, peer: gateway.stranger().await, place: String::new() };
        dke::send(&mut office.peer, ("GET", &format!("/{DKE}")), None, b"").await;
        office.place = dke::place(&office.peer.answer().await.unwrap().expect(200).json());
        Self { gateway, api, kms, peer, azure, office }
    }

    async fn make(&mut self, through: Through) -> Made {
        let plaintext = STANDARD.decode(DEK).unwrap();
        let whole = match through {
            Through::Native | Through::NativeInContext => {
                let made = self
                    .api
                    .use_key(KEY, "encrypt", &json!({"plaintext": DEK, "context": context(through)}))
                    .await;
                bytes(&made["ciphertext"])
            }
            Through::AwsXks => {
                let asked = encrypt(&plaintext, None, false);
                let made = self.kms.ask(&mut self.peer, &format!("keys/{KEY}/encrypt"), &asked).await;
                let made = made.expect(200).json();
                let pieces =
                    ["ciphertextMetadata", "initializationVector", "ciphertext", "authenticationTag"];
                pieces.map(|piece| bytes(&made[piece])).concat()
            }
            Through::GoogleCse => {
                let made = cse::post(&mut self.peer, "wrap", &wrap(&user(), &google("writer"))).await;
                bytes(&made.expect(200).json()["wrapped_key"])
            }
            Through::AzureEkm => {
                let asked = ekm::value("A256KW", &plaintext);
                ekm::bytes(ekm::ask(&mut self.azure, &format!("/ekm/{OWN}/wrapkey"), &asked).await)
            }
            // Clients encrypt by themselves.
            Through::MsDke => {
                let public = bytes(&self.api.public_key(DKE).await["public_key"]);
                dke::seal(self.gateway.directory.parent().unwrap(), &public, ("sha256", "sha256"), &plaintext)
            }
        };
        let (head, body) = whole.split_at(whole.len() - through.length());
        Made { head: head.to_vec(), body: body.to_vec() }
    }

    /// Shows a ciphertext to a protocol, in a form that this one has.
    async fn open(&mut self, through: Through, head: &[u8], body: &[u8]) -> Answer {
        let whole = [head, body].concat();
        match through {
            Through::Native | Through::NativeInContext => {
                let asked = json!({"ciphertext": base64(&whole), "context": context(through)});
                self.api.try_key(KEY, "decrypt", &asked).await
            }
            Through::AwsXks => {
                let pieces = json!({
                    "ciphertextMetadata": base64(head),
                    "initializationVector": base64(&body[..12]),
                    "ciphertext": base64(&body[12..body.len() - 16]),
                    "authenticationTag": base64(&body[body.len() - 16..]),
                });
                let asked = decrypt(&pieces, None);
                self.kms.ask(&mut self.peer, &format!("keys/{KEY}/decrypt"), &asked).await
            }
            Through::GoogleCse => {
                let asked = unwrap(&user(), &google("reader"), &base64(&whole).into());
                cse::post(&mut self.peer, "unwrap", &asked).await
            }
            Through::AzureEkm => {
                let asked = ekm::value("A256KW", &whole);
                ekm::ask(&mut self.azure, &format!("/ekm/{OWN}/unwrapkey"), &asked).await
            }
            Through::MsDke => {
                let Office { signer, peer, place } = &mut self.office;
                let claims = json!({"aud": format!("https://{}", dke::HOST), "nbf": now(), "upn": "ana@contoso.example"});
                let bearer = format!("Bearer {}", signer.token(dke::ISSUER, claims));
                let asked = json!({"alg": "RSA-OAEP-256", "value": base64(&whole)}).to_string();
                dke::send(peer, ("POST", place), Some(&bearer), asked.as_bytes()).await;
                peer.answer().await.unwrap()
            }
        }
    }
}

fn context(through: Through) -> Value {
    match through {
        Through::NativeInContext => json!({"holdfast/google-cse/v1": "x", "protocol": "aws-xks"}),
        Through::Native | Through::AwsXks | Through::GoogleCse | Through::AzureEkm | Through::MsDke => {
            json!({})
        }
    }
}

fn google(role: &str) -> Value {
    with(drive(role), "perimeter_id", Value::Null)
}

#[track_caller]
fn is_refused_for_what_it_is(answer: &Answer, through: Through, what: &str) {
    let (status, said) = match through {
        Through::Native | Through::NativeInContext => (422, "integrity"),
        Through::AwsXks => (400, "InvalidCiphertextException"),
        Through::GoogleCse => (400, "does not verify"),
        Through::AzureEkm => (400, "BadRequest"),
        Through::MsDke => (400, "does not verify"),
    };
    let body = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == status && body.contains(said), "{what}: {} {body}", answer.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_through_one_opens_through_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut several = Several::new(&directory.path().join("data")).await;
    let mut made = vec![];
    for through in Through::ALL {
        let one = several.make(through).await;
        // In its own form it opens.
        let opened = several.open(through, &one.head, &one.body).await.expect(200);
        // In base64url there is another alphabet and no padding.
        let told = String::from_utf8_lossy(&opened.body).replace('-', "+").replace('_', "/");
        assert!(told.contains(DEK.trim_end_matches('=')), "{through:?}");
        made.push((through, one));
    }
    for (from, theirs) in &made {
        for (to, ours) in &made {
            if from == to {
                continue;
            }
            let what = format!("{from:?} through {to:?}");
            // The body of the one in the other's form, where everything else is right.
            let answer = several.open(*to, &ours.head, &theirs.body).await;
            is_refused_for_what_it_is(&answer, *to, &what);
            // And with all that it came with.
            let answer = several.open(*to, &theirs.head, &theirs.body).await;
            if *to == Through::AwsXks {
                // What stands apart there has a form of its own.
                assert_eq!(answer.status, 400, "{what}");
            } else {
                is_refused_for_what_it_is(&answer, *to, &what);
            }
        }
    }
    // Nor is it made into something that opens: in no form, by no key of its own or another's.
    for (from, theirs) in &made {
        for (form, ours) in &made {
            let is_native = matches!(from, Through::Native | Through::NativeInContext);
            if is_native && context(*from) == context(*form) {
                continue;
            }
            for head in [&ours.head[..], &theirs.head, &[]] {
                let forged = base64(&[head, &theirs.body].concat());
                let asked = json!({"ciphertext": forged, "context": context(*form)});
                several.api.try_key(KEY, "rewrap", &asked).await.refused(422, "integrity");
            }
        }
        for key in [OWN, DKE] {
            for head in [&theirs.head[..], &[]] {
                let asked = json!({"ciphertext": base64(&[head, &theirs.body].concat())});
                several.api.try_key(key, "rewrap", &asked).await.refused(422, "unsupported");
            }
            // What the native API made itself it does not make into another protocol's either.
            let whole = base64(&[&theirs.head[..], &theirs.body].concat());
            let asked = json!({"ciphertext": whole, "context": context(*from), "target_key": key});
            let answer = several.api.try_key(KEY, "rewrap", &asked).await;
            assert!([403, 422].contains(&answer.status), "{from:?} to {key}: {}", answer.status);
        }
    }
    // A key that is one protocol's alone does nothing through the others, whatever it is given; and no other does anything there.
    for (through, theirs) in made.iter().filter(|(through, _)| through.key() != KEY) {
        for (verb, body) in [
            ("unwrap", json!({"ciphertext": base64(&theirs.body), "key_version": 1})),
            ("unwrap", json!({"ciphertext": base64(&theirs.body)})),
            (
                "decrypt",
                json!({"ciphertext": base64(&theirs.body), "key_version": 1, "padding": "oaep-sha-256"}),
            ),
            ("decrypt", json!({"ciphertext": base64(&theirs.body)})),
            ("wrap", json!({"plaintext": DEK})),
            ("encrypt", json!({"plaintext": DEK})),
        ] {
            let answer = several.api.try_key(through.key(), verb, &body).await;
            assert!((400..500).contains(&answer.status), "{through:?} {verb}: {}", answer.status);
        }
    }
    let (_, theirs) = made.iter().find(|(through, _)| *through == Through::AzureEkm).unwrap();
    several.api.create(&json!({"name": "any", "algorithm": "aes-256-kw", "purpose": "wrap"})).await;
    for (path, bytes) in [("wrapkey", &[7; 32][..]), ("unwrapkey", &theirs.body)] {
        for key in ["any", KEY, DKE] {
            let asked = ekm::value("A256KW", bytes);
            let answer = ekm::ask(&mut several.azure, &format!("/ekm/{key}/{path}"), &asked).await;
            answer.ekm_error(404, "KeyNotFound");
        }
    }
    several.gateway.running.shut_down().await.unwrap();
}
