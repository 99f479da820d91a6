//! One target a decoder: everything that reads bytes which somebody else wrote. Each says whether it accepted the input.

use holdfast_core::port::Identify as _;
use holdfast_core::tenant::Anchor;

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> bool,
}

pub const TARGETS: &[Target] = &[
    Target { name: "native-request", run: native_request },
    Target { name: "native-answer", run: native_answer },
    Target { name: "kubernetes-kms", run: kubernetes_kms },
    Target { name: "kubernetes-csi", run: kubernetes_csi },
    Target { name: "token", run: token },
    Target { name: "signed-request", run: signed_request },
    Target { name: "issued-token", run: issued_token },
    Target { name: "dke-request", run: dke_request },
    Target { name: "ekm-request", run: ekm_request },
    Target { name: "xks-request", run: xks_request },
    Target { name: "cse-request", run: cse_request },
    Target { name: "ciphertext", run: ciphertext },
    Target { name: "sealed-blob", run: sealed_blob },
    Target { name: "share", run: share },
    Target { name: "share-list", run: share_list },
    Target { name: "backup", run: backup },
    Target { name: "backup-share", run: backup_share },
    Target { name: "key-archive", run: key_archive },
    Target { name: "token-worker", run: token_worker },
    Target { name: "certificate", run: certificate },
    Target { name: "anchor", run: anchor },
    Target { name: "policy", run: policy },
    Target { name: "checkpoint", run: checkpoint },
    Target { name: "log-proof", run: log_proof },
    Target { name: "sink-cursor", run: sink_cursor },
    Target { name: "witness-request", run: witness_request },
    Target { name: "witness-policy", run: witness_policy },
    Target { name: "proxy-header", run: proxy_header },
    Target { name: "configuration", run: configuration },
];

/// Their names, for whoever asks for another.
pub fn names() -> String {
    TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ")
}

fn text(input: &[u8]) -> &str {
    std::str::from_utf8(input).unwrap_or_default()
}

/// `METHOD PATH?QUERY`, a line end, the body.
fn native_request(input: &[u8]) -> bool {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (head, body) = input.split_at(end);
    let (method, target) = text(head).split_once(' ').unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    holdfast_wire::native::decode_any(method, path, query, body.get(1..).unwrap_or_default()).is_ok()
}

fn native_answer(input: &[u8]) -> bool {
    use holdfast_wire::native::client;
    let _problem = client::problem(500, input);
    client::parse::<holdfast_wire::native::message::Keys>(200, input).is_ok()
}

/// The path of a call, a line end, its body.
fn kubernetes_kms(input: &[u8]) -> bool {
    use holdfast_wire::kubernetes::{self, Call, KekId, MAX_CIPHERTEXT, MAX_KEY_ID, MAX_PLAINTEXT};
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, body) = input.split_at(end);
    let _headers = (kubernetes::grpc::timeout(text(path)), kubernetes::grpc::trailer_text(text(input)));
    let body = body.get(1..).unwrap_or_default();
    // What the other side reads: no answer that it is given may do more than be refused.
    let _answers = (
        kubernetes::client::read_status(body),
        kubernetes::client::read_encrypted(body),
        kubernetes::client::read_decrypted(body),
        kubernetes::client::trailer_words(text(input)),
    );
    match kubernetes::decode(text(path), body) {
        Ok(Call::Status) => true,
        Ok(Call::Encrypt(request)) => {
            assert!((1..=MAX_PLAINTEXT).contains(&request.plaintext.len()) && !request.uid.is_empty());
            true
        }
        Ok(Call::Decrypt(request)) => {
            assert!((1..=MAX_CIPHERTEXT).contains(&request.ciphertext.len()) && !request.uid.is_empty());
            assert!((1..=MAX_KEY_ID).contains(&request.key_id.len()));
            let _form = KekId::is_one(request.key_id);
            true
        }
        Err(_) => false,
    }
}

/// A volume's attributes, and the message of a call.
fn kubernetes_csi(input: &[u8]) -> bool {
    use holdfast_wire::kubernetes::csi::{self, Call, Volume};
    const MOUNT: &str = "/v1alpha1.CSIDriverProvider/Mount";
    let _raw = csi::decode(MOUNT, input).is_ok();
    // As the first field of a message, so that mutations are of what it says.
    let length = u32::try_from(input.len()).unwrap_or(u32::MAX).min(1 << 20);
    let mut message = vec![0x0a];
    let mut rest = length;
    while rest >= 0x80 {
        message.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    message.push(rest as u8);
    message.extend(input.iter().take(length as usize));
    let body = holdfast_wire::kubernetes::grpc::framed(&message);
    let Ok(Call::Mount(asked)) = csi::decode(MOUNT, &body) else { return false };
    let Ok(mount) = asked.read("holdfast") else { return false };
    let mut volume = Volume::default();
    for object in &mount.objects {
        assert!(!object.path.starts_with('/') && !object.path.split('/').any(|part| part.starts_with("..")));
        volume.put(object, b"contents").expect("little fits");
    }
    assert!(!volume.into_message().is_empty());
    true
}

fn token(input: &[u8]) -> bool {
    holdfast_wire::native::token::from_authorization(text(input)).is_ok()
}

/// The values of `Authorization` and `X-Amz-Date`, a line each, then the path.
fn signed_request(input: &[u8]) -> bool {
    use holdfast_wire::sigv4::{Request, take_apart};
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (authorization, date, path) = (line(), line(), line());
    let headers = |name: &str, each: &mut dyn FnMut(&[u8])| match name {
        "authorization" => each(authorization),
        "x-amz-date" => each(date),
        "host" | "content-type" => each(b" a  b "),
        _ => {}
    };
    let request = Request { method: "POST", path: text(path), headers: &headers, body: input };
    take_apart(&request, holdfast_wire::xks::SERVICE, &|_| true).is_ok()
}

/// A token's header, a line end, its claims: signed here, so that what is behind the signature is reached. And all of it as a token, and as keys.
fn issued_token(input: &[u8]) -> bool {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use holdfast_core::Timestamp;
    use holdfast_identity::issued::{self, Algorithm, Expected, Issuer, Issuers, KeySet, Moment, Token};
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
    let set = format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"one","x":"{}"}}]}}"#,
        BASE64.encode(key.public_key())
    );
    let issuers = Issuers::new([Issuer {
        name: "https://idp.example".into(),
        audiences: std::sync::Arc::new(["holdfast".to_owned()]),
        algorithms: vec![Algorithm::EdDsa],
        keys: KeySet::parse(set.as_bytes()).ok().map(std::sync::Arc::new),
        believed_until: None,
    }]);
    let at = Moment { now: Timestamp::from_micros(1_768_472_100_000_000), ticks: 0 };
    let verify = |token: &str| issued::verify(token, &issuers, &Expected::default(), at);
    let _raw =
        (KeySet::parse(input).is_ok(), Token::parse(text(input)).is_ok_and(|token| token.issuer().is_some()));
    assert!(verify(text(input)).is_err(), "nobody signed it");
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, claims) = input.split_at(end);
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims.get(1..).unwrap_or_default()));
    let token = format!("{signed}.{}", BASE64.encode(key.sign(signed.as_bytes())));
    let Ok(claims) = verify(&token) else { return false };
    assert_eq!((claims.issuer(), claims.text("iss")), ("https://idp.example", Some("https://idp.example")));
    assert!((claims.token().valid_from()..claims.token().valid_until()).contains(&at.now));
    true
}

/// The path, a line end, the body.
fn dke_request(input: &[u8]) -> bool {
    use holdfast_core::{KeyId, KeyVersion};
    use holdfast_wire::dke::{document, kid, message, path};
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, body) = input.split_at(end);
    let _document = document::document(body, "https://dke.example.org/k/i", None);
    let Some(path) = path::parse("", text(path)) else { return false };
    if let path::Path::Decrypt { id, .. } = path {
        let key = KeyId::from_bytes([7; 16]);
        let version = kid::version_of(key, id);
        // Of all that an id can be of, the number alone is told: the first group.
        let again = |version: KeyVersion| kid::of(key, version, b"public").get(..8).map(str::to_owned);
        let group = id.get(..8).map(str::to_ascii_uppercase);
        assert!(version.is_none_or(|version| again(version) == group));
    }
    message::decode(body.get(1..).unwrap_or_default()).is_ok_and(|request| request.fault.is_none())
}

/// The path, a line end, the body.
fn xks_request(input: &[u8]) -> bool {
    use holdfast_wire::xks::{message, path};
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, body) = input.split_at(end);
    let Some(path) = path::parse(text(path)) else { return false };
    let message::Request { asks, .. } = message::decode(path.operation, body.get(1..).unwrap_or_default());
    match asks {
        Ok(message::Asks::Health | message::Asks::Metadata | message::Asks::Use(_)) => true,
        Ok(message::Asks::Faulty(error)) | Err(error) => {
            drop(holdfast_wire::xks::error::refusal(&error));
            false
        }
    }
}

/// The path with its query, a line end, the body.
fn ekm_request(input: &[u8]) -> bool {
    use holdfast_core::operation::Operation;
    use holdfast_wire::ekm::{error, message, path};
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (target, body) = input.split_at(end);
    let (path, query) =
        text(target).split_once('?').map_or((text(target), None), |(path, query)| (path, Some(query)));
    let Some(path) = path::parse("/p", path) else { return false };
    let message::Request { asks, id, says } =
        message::decode(&path, query, body.get(1..).unwrap_or_default());
    match asks.inspect_err(|error| drop(error::refusal(error))) {
        Ok(asks) => {
            assert!(id.is_some() && says.pairs().count() >= 2);
            match asks {
                message::Asks::Use(Operation::WrapBare { bytes, .. }) => {
                    assert!(bytes.len() <= message::MAX_VALUE);
                }
                message::Asks::Use(Operation::UnwrapBare { wrapped, .. }) => {
                    assert!(wrapped.len() <= message::MAX_WRAPPED);
                }
                message::Asks::Use(other) => panic!("{other:?} is none of this protocol's"),
                message::Asks::Info | message::Asks::Metadata => {}
            }
            true
        }
        Err(_) => false,
    }
}

/// The path below the service's own, a line end, the body.
fn cse_request(input: &[u8]) -> bool {
    use holdfast_wire::cse::{message, path::Method};
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, body) = input.split_at(end);
    let Some(method) = Method::of(text(path)).filter(|method| !method.is_read()) else { return false };
    let body = body.get(1..).unwrap_or_default();
    let _key = message::peers_key(body);
    message::decode(method, body).1.is_ok()
}

fn ciphertext(input: &[u8]) -> bool {
    holdfast_core::frame::Header::parse(input).is_ok()
}

fn sealed_blob(input: &[u8]) -> bool {
    holdfast_keystore::sealing::SealedBlob::parse(input).is_some()
}

/// With the check that belongs to it, which no mutation would hit.
fn share(input: &[u8]) -> bool {
    use holdfast_keystore::root::SealerId;
    use holdfast_keystore::root::order::OrderChallenge;
    use holdfast_keystore::root::share::{Share, Sharing};
    use holdfast_keystore::root::spoken::{Challenge, Fingerprint, Proof};
    let typed = text(input);
    let _spoken = (typed.parse::<Challenge>(), typed.parse::<Proof>(), typed.parse::<Fingerprint>());
    let _unchecked = Share::parse(input);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input);
    let check: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let line = [input, b":", check.as_bytes(), b"\n"].concat();
    let of = Sharing {
        instance: "01JDCZRGZKA9Q6W8T2V4X6Y8Z0".parse().expect("an instance"),
        generation: 1,
        threshold: 2,
        root: SealerId::parse("0011223344556677").expect("a name"),
    };
    if let Ok(asked) = OrderChallenge::parse(input, &of, 1) {
        assert!(asked.to_text(&of, 1).expose().trim_ascii_end().eq_ignore_ascii_case(input.trim_ascii_end()));
    }
    let Ok(share) = Share::parse(&line) else { return false };
    // What is read is written back the same, but for the case of its digits.
    assert!(share.to_text().expose().eq_ignore_ascii_case(&line) || input.iter().any(u8::is_ascii_uppercase));
    true
}

fn share_list(input: &[u8]) -> bool {
    let Ok(roster) = holdfast_gateway::shares::Roster::parse(text(input)) else { return false };
    let written = roster.to_text().expect("it is text");
    assert_eq!(holdfast_gateway::shares::Roster::parse(&written).expect("and a list"), roster);
    true
}

/// What lies around a backup for custodians, up to what is sealed.
fn backup(input: &[u8]) -> bool {
    use holdfast_gateway::backup::Found;
    let found = Found::of(Box::new(std::io::Cursor::new(input.to_vec())));
    let _said = holdfast_gateway::backup::proof::read(text(input));
    match found {
        Ok(Found::Custodians(opening)) => {
            assert!(opening.custodians().len() >= opening.threshold() && !opening.is_complete());
            true
        }
        Ok(Found::Anyone(_) | Found::Clear(_)) | Err(_) => false,
    }
}

/// One line of it, with the check that belongs to it.
fn backup_share(input: &[u8]) -> bool {
    use holdfast_keystore::root::backup::BackupShare;
    let _unchecked = BackupShare::parse(input);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input);
    let check: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let line = [input, b":", check.as_bytes(), b"\n"].concat();
    let Ok(share) = BackupShare::parse(&line) else { return false };
    assert!(share.to_text().expose().eq_ignore_ascii_case(&line) || input.iter().any(u8::is_ascii_uppercase));
    true
}

/// What stands in the archive of a key, once it is opened.
fn key_archive(input: &[u8]) -> bool {
    use holdfast_gateway::backup::{Found, KeyContent};
    let Ok(Found::Clear(readable)) = Found::of(Box::new(std::io::Cursor::new(input.to_vec()))) else {
        return false;
    };
    let Ok(content) = KeyContent::read(readable) else { return false };
    content.key().is_ok() && content.archive().is_ok() && content.code().is_ok() && content.versions().is_ok()
}

/// Both directions: neither side trusts the other.
fn token_worker(input: &[u8]) -> bool {
    use holdfast_keystore::pkcs11::message::{Buffer, Hello, Reply, Request};
    let mut buffer = Buffer::default();
    let request = Request::decode(input).map(|(number, request)| request.encode(number, &mut buffer));
    let reply = Reply::decode(input).map(|(number, reply)| reply.encode(number, &mut buffer));
    if request.is_ok() || reply.is_ok() {
        // What is read is written back the same: there is one form.
        assert_eq!(buffer.get(4..), Some(input));
    }
    Hello::decode(input).is_ok() || request.is_ok() || reply.is_ok()
}

fn certificate(input: &[u8]) -> bool {
    holdfast_identity::credential_from_certificate(input).is_ok()
}

fn anchor(input: &[u8]) -> bool {
    let anchor = Anchor {
        name: "fuzzed".parse().expect("a name"),
        certificate: input.into(),
        revocations: Some(input.into()),
    };
    let alone = Anchor { revocations: None, ..anchor.clone() };
    let registrations = holdfast_identity::Registrations::new(&holdfast_core::Secret::new(vec![0; 32]));
    let _both = registrations.prepare(&[], &[anchor]);
    registrations.prepare(&[], &[alone]).is_ok()
}

fn policy(input: &[u8]) -> bool {
    thread_local! {
        static CEDAR: holdfast_policy::CedarPolicy = holdfast_policy::CedarPolicy::new().expect("the schema");
    }
    let tenant = "acme".parse().expect("a tenant");
    CEDAR.with(|cedar| cedar.prepare(&tenant, text(input)).is_ok())
}

fn checkpoint(input: &[u8]) -> bool {
    let Ok(note) = holdfast_audit::note::Note::parse(input) else { return false };
    holdfast_audit::checkpoint::Checkpoint::from_text(note.text()).is_ok()
}

fn log_proof(input: &[u8]) -> bool {
    holdfast_audit::proof::TlogProof::parse(input).is_ok()
}

fn sink_cursor(input: &[u8]) -> bool {
    holdfast_audit::sink::cursor::Cursor::parse(input).is_ok()
}

fn witness_request(input: &[u8]) -> bool {
    let Ok((request, checkpoint)) = holdfast_audit::witness::Request::parse(input) else { return false };
    // What is read is written back the same: there is one form.
    assert_eq!(request.to_string().as_bytes(), input);
    request.old <= checkpoint.size
}

fn witness_policy(input: &[u8]) -> bool {
    let Ok(policy) = holdfast_audit::policy::Policy::parse(input) else { return false };
    // It asks for nobody whom it does not know.
    assert!(policy.is_met(|_| true));
    true
}

fn proxy_header(input: &[u8]) -> bool {
    use holdfast_gateway::proxy::{Parsed, parse};
    matches!(parse(input), Parsed::Complete(..))
}

fn configuration(input: &[u8]) -> bool {
    holdfast_gateway::config::Config::parse(text(input)).is_ok()
}
