//! A key service of Microsoft's Double Key Encryption: the real binary, keys in a token and from elsewhere, tokens by PyJWT, `curl` and `openssl` as clients.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::softhsm::SoftHsm;
use common::wait::until;
use common::{Dev, issuer, stderr, tool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

const ISSUER: &str = "https://sts.windows.net/3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21/";
const BLOB: &str = "LAD//yAAEABAQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX2BhYmM=";
const POLICY: &str = r#"
@id("dke")
permit (principal == Holdfast::Caller::"ms-dke", action in [Holdfast::Action::"public-key", Holdfast::Action::"decrypt"], resource)
when {
  context.authentication == "open" ||
  (context.request.hasTag("user") && context.request.getTag("user") == "ana.lopez@contoso.example")
};
"#;
/// v1 tokens as Entra has them.
const TOKENS: &str = r#"
claims = {"aud": "https://127.0.0.1", "iss": "https://sts.windows.net/3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21/", "iat": now, "nbf": now, "exp": now + 3600, "sub": "s", "ver": "1.0",
          "appid": "d3590ed6-52b3-4102-aeff-aad2292ab01c", "scp": "user_impersonation", "upn": "Ana.Lopez@contoso.example"}
def token(name, **more):
    write(name, claims | more.pop("claims", {}), before="authorization: Bearer ", **more)
token("ana")
token("bob", claims={"upn": "bob@contoso.example"})
token("shared", key="secret of nobody's, long enough for that", algorithm="HS256")
"#;

struct Service {
    dev: Dev,
}

/// What `curl` got.
struct Got {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Service {
    fn start(token: &str, keys: &str) -> Self {
        let settings = format!(
            "{token}
[[ms_dke]]
public_url = \"https://127.0.0.1\"
tenant = \"dev\"
caller = \"ms-dke\"
keys = [{keys}]
issuers = [\"{ISSUER}\"]

"
        );
        let dev = issuer::gateway([ISSUER], TOKENS, &settings);
        until("it is ready", || dev.server.admin("/metrics").contains("holdfast_ready 1"));
        dev.ok(&["caller", "put", "ms-dke", "--issuer", ISSUER, "--any-subject"]);
        dev.add_policy(POLICY);
        Self { dev }
    }

    /// Asks as anybody, with the header of this file if there is one.
    fn curl(&self, url: &str, header: Option<&str>, more: &[&str]) -> Got {
        let url = url.replace("https://127.0.0.1", &self.dev.server.url);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--path-as-is", "-D", "-", "--cacert", self.dev.ca()]).args(more);
        if let Some(header) = header {
            curl.args(["-H", &format!("@{}", self.dev.path(header).display())]);
        }
        let output = curl.arg(&url).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Got { status, headers, body: body.to_owned() }
    }

    fn document(&self, key: &str) -> Value {
        let got = self.curl(&format!("https://127.0.0.1/{key}"), None, &[]);
        assert_eq!(got.status, 200, "{}", got.body);
        serde_json::from_str(&got.body).unwrap()
    }

    fn decrypt(&self, kid: &str, value: &str, who: &str) -> Got {
        let body = json!({"alg": "RSA-OAEP-256", "value": value}).to_string();
        let json = ["-H", "content-type: application/json", "-d", &body];
        self.curl(&format!("{kid}/decrypt"), Some(who), &json)
    }

    fn shell(&self, line: &str) -> String {
        let directory = self.dev.path("x").parent().unwrap().to_owned();
        let done = Command::new("sh").args(["-euc", line]).current_dir(directory).output().unwrap();
        assert!(done.status.success(), "{line}: {}", stderr(&done));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// What `openssl` encrypts for the key of a document, made from its `n` and `e` as a client makes it.
    fn seal(&self, document: &Value) -> String {
        self.dev.file("document.json", document.to_string().as_bytes());
        const CLIENT: &str = "import base64, json\nfrom cryptography.hazmat.primitives.asymmetric import rsa\nfrom cryptography.hazmat.primitives import serialization as z\nkey = json.load(open('document.json'))['key']\nn = int.from_bytes(base64.b64decode(key['n']), 'big')\npem = rsa.RSAPublicNumbers(key['e'], n).public_key().public_bytes(z.Encoding.PEM, z.PublicFormat.SubjectPublicKeyInfo)\nopen('public.pem', 'wb').write(pem)";
        self.dev.file("client.py", CLIENT.as_bytes());
        self.shell(&format!(
            "/usr/bin/python3 client.py; printf %s {BLOB} | base64 -d > blob
             openssl pkeyutl -encrypt -pubin -inkey public.pem -in blob -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 | base64 -w0"
        ))
    }

    /// What Microsoft's `key_store_tester.ps1` looks at, in its order.
    fn passes_the_tester(&self, key: &str) {
        let document = self.document(key);
        let key = document["key"].as_object().unwrap();
        assert!(["kty", "n", "e", "alg", "kid"].iter().all(|field| key.contains_key(*field)));
        assert_eq!((key["kty"].as_str(), key["alg"].as_str()), (Some("RSA"), Some("RS256")));
        let url = format!("{}/decrypt", key["kid"].as_str().unwrap());
        assert!(url.starts_with("https"));
        let got = self.curl(&url, None, &["-X", "POST"]);
        assert_eq!(got.status, 401);
        let challenge = &got.headers["www-authenticate"];
        assert!(challenge.to_lowercase().starts_with("bearer"));
        let parts: BTreeMap<_, _> = challenge["bearer ".len()..]
            .split(',')
            .map(|part| part.split_once('=').unwrap())
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            .collect();
        assert!(parts.contains_key("authorization") && parts.contains_key("realm"));
        let host = |url: &str| url.strip_prefix("https://").unwrap().split('/').next().unwrap().to_owned();
        assert_eq!(host(parts["resource"]), host(&url));
    }
}

#[test]
fn a_key_in_a_token_serves_what_clients_and_microsofts_tester_expect() {
    if !tool("softhsm2-util") || !tool("curl") {
        return;
    }
    let token = SoftHsm::new();
    let service = Service::start(&token.settings_of("hsm-a"), r#""legal-hold""#);
    let create = ["key", "create", "legal-hold", "--algorithm", "rsa-2048", "--purpose", "encrypt"];
    service.dev.ok(&[&create[..], &["--protocol", "ms-dke"]].concat());
    let listed = service.dev.ok(&["key", "list"]);
    assert!(listed.contains("active, for ms-dke alone"), "{listed}");
    let attested = service.dev.path("attested.json").display().to_string();
    until("its making is published", || {
        service.dev.run(&["key", "attest", "legal-hold", "--force", "-o", &attested]).status.success()
    });
    let vkey = service.dev.data().join("audit/dev/log.vkey").display().to_string();
    let verified = service.dev.run(&["audit", "verify-attestation", &attested, "--vkey", &vkey]);
    assert!(stderr(&verified).contains("created for protocol `ms-dke`"), "{}", stderr(&verified));
    service.passes_the_tester("legal-hold");

    let document = service.document("legal-hold");
    let kid = document["key"]["kid"].as_str().unwrap().to_owned();
    let sealed = service.seal(&document);
    let opened = service.decrypt(&kid, &sealed, "ana");
    assert_eq!((opened.status, opened.body), (200, format!(r#"{{"value":"{BLOB}"}}"#)));
    assert_eq!(service.decrypt(&kid, &sealed, "bob").status, 403);
    assert_eq!(service.decrypt(&kid, &sealed, "shared").status, 401);
    service.dev.ok(&["key", "rotate", "legal-hold"]);
    let newer = service.document("legal-hold");
    assert_ne!(newer["key"], document["key"]);
    service.passes_the_tester("legal-hold");
    let resealed = service.seal(&newer);
    assert_eq!(service.decrypt(newer["key"]["kid"].as_str().unwrap(), &resealed, "ana").status, 200);
    assert_eq!(service.decrypt(&kid, &sealed, "ana").status, 200);
    // Not by our own API, and not by asking nicely.
    let file = service.dev.file("sealed", b"x");
    let said = service.dev.fails(&["encrypt", &file, "--key", "legal-hold"], 2);
    assert!(said.contains("created for protocol `ms-dke` alone"), "{said}");
    service.dev.ok(&["caller", "suspend", "ms-dke"]);
    assert_eq!(service.decrypt(&kid, &sealed, "ana").status, 403);
}

/// The vectors of `fixtures/ms-dke`: a key that another service had goes on opening what was encrypted for it, and nothing else opens.
#[test]
fn a_key_from_elsewhere_opens_the_published_vector_and_no_other_padding() {
    if !tool("curl") {
        return;
    }
    let service = Service::start("", r#""vectors""#);
    let begin = ["key", "import", "begin", "vectors", "--algorithm", "rsa-2048", "--purpose", "encrypt"];
    let pem = service.dev.ok(&[&begin[..], &["--protocol", "ms-dke"]].concat());
    service.dev.file("import.pem", pem.as_bytes());
    let fixture = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ms-dke").join(name);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    service.dev.file("key.pem", fixture("key.pem").as_bytes());
    let check = service.shell(
        "openssl pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out material
         openssl rand 32 > kek.bin
         openssl pkeyutl -encrypt -pubin -inkey import.pem -in kek.bin -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 > wrapped.bin
         openssl enc -id-aes256-wrap-pad -K $(od -An -v -tx1 kek.bin | tr -d ' \\n') -iv A65959A6 -in material >> wrapped.bin
         openssl pkey -in key.pem -pubout -outform DER | openssl dgst -sha256 -r | cut -c1-64",
    );
    service.dev.ok(&["key", "import", "finish", "vectors", "--file", "wrapped.bin", "--check-value", &check]);
    let document = service.document("vectors");
    let published: Value = serde_json::from_str(&fixture("document.json")).unwrap();
    assert_eq!(
        (&document["key"]["n"], &document["key"]["e"]),
        (&published["key"]["n"], &published["key"]["e"])
    );
    service.passes_the_tester("vectors");
    let kid = document["key"]["kid"].as_str().unwrap();
    let request: Value = serde_json::from_str(&fixture("request.json")).unwrap();
    let opened = service.decrypt(kid, request["value"].as_str().unwrap(), "ana");
    assert_eq!((opened.status, opened.body), (200, fixture("answer.json")));
    for other in ["oaep-sha-256-mgf1-sha-1.txt", "oaep-sha-1.txt", "pkcs1-v1.5.txt"] {
        let refused = service.decrypt(kid, &fixture(other), "ana");
        assert_eq!(
            (refused.status, &*refused.body),
            (400, r#"{"error":"the input does not verify"}"#),
            "{other}"
        );
    }
}
