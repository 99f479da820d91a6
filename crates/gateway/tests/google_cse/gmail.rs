//! Private keys of Gmail users.

use super::{ADMINS, Refusals, recorded};
use crate::support;
use crate::support::api::base64;
use crate::support::cse::{DEK, admin, drive, gateway, google, post, table, token, unwrap, user, with};
use crate::support::log;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};

/// The vectors of the digest's section 10, and what may not be done with a user's private key.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_and_decrypts_with_a_key_that_nobody_sees() {
    const SPKI: &str = "3bj9JRTGYXmBlnkuf78/Xqb+BDYbO5ooABHvMZPebSc=";
    const DIGEST: &str = "HnV1M6heJQQXQ+01TkPj4VU4VLIGJnjXs8G/ghKQ//M=";
    const SIGNATURE: &str = "fgaX15MSGnLPyreabyzJgx+tlT8dFZczFyDZfEMTo5r5nIJ8vEYrbSu/99Xt29H1BL/EMOK5B6R0Y6XIMuYPKn5Adfg5XGSyhJEwCS5o0MIVwz/RUkwTK4D3IlEujGxTOifAzlOAOx/9dwrobx4pWtepW0GGFfbRmS5LAunpiEMTsp3g9sYddvLfwdWbl7f7P0LGvbQ0XArDveu5W+1aqk5TVPZKEqBCRHMmbclmYcqhosqP58IExyq0yESgYNXrKEzEnhPQIV/Ki2U/OlQc1jVqRyPENr8TNXhFKbXpQyegYiKiVAroFuWp7Ml0O4ZGAHadmjb4l6uEaIaJdb5+Gw==";
    const CIPHERTEXT: &str = "f4bquuc8VEiy78j1s0ZufJ1VwMEjCHhHpWM5YUhh2gy6/33UdVn8rwiRImCU97Y4IoHh/57h7zQwX86LwCsQ08aQBuxs9p9S739afrFhlXbc8OG0KBpoknvSzMrjx0PFDw5BMCvVzui4qmO9JwAsw4eyQsjjaISiK42reWG5GYp6qD94udCJX2Jwz9ofCFU65DQiTCR651qtgiIigbIgxFgjWNkVLqQUz09NNxEP4lJHMavdo/48bg4Mo91MIPyD3BwueZCQJgmXY7FQWnzj0skgt1Ffo/nEsNzmWM9tePVTlMNcPYp5yWtG1xk4MnPEEyhUTN7TznIdEQSn1F8eVg==";
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, _api) = gateway(&data, table()).await;
    let mut peer = gateway.stranger().await;
    let pem = std::fs::read_to_string(support::cse::fixture("test-key.pem")).unwrap();
    let wrapping = json!({"authentication": token(&admin()), "perimeter_id": "eu-legal", "private_key": pem});
    let wrapped = post(&mut peer, "wrapprivatekey", &wrapping).await.expect(200).json();
    let blob = &wrapped["wrapped_private_key"];
    assert!(blob.as_str().unwrap().len() < 8192);
    let gmail = |role| {
        let said = with(google(Application::Gmail, role), "message_id", "<m@corp.example>".into());
        with(with(said, "spki_hash", SPKI.into()), "spki_hash_algorithm", "SHA-256".into())
    };
    let asking = |google: &Value, algorithm: &str, name: &str, value: &str| {
        json!({"authentication": token(&user()), "authorization": token(google), "algorithm": algorithm,
            name: value, "reason": "{client:'gmail'}", "wrapped_private_key": blob})
    };
    let sign = |google: &Value, algorithm: &str| asking(google, algorithm, "digest", DIGEST);
    let decrypt = |google: &Value, algorithm: &str, ciphertext: &str| {
        asking(google, algorithm, "encrypted_data_encryption_key", ciphertext)
    };
    let (signer, decrypter) = (gmail("signer"), gmail("decrypter"));
    let signed = post(&mut peer, "privatekeysign", &sign(&signer, "SHA256withRSA")).await.expect(200);
    assert_eq!(signed.body, format!(r#"{{"signature":"{SIGNATURE}"}}"#).into_bytes());
    let salted = with(sign(&signer, "SHA256withRSA/PSS"), "rsa_pss_salt_length", 32.into());
    post(&mut peer, "privatekeysign", &salted).await.expect(200);
    let pkcs1 = "RSA/ECB/PKCS1Padding";
    let opened =
        post(&mut peer, "privatekeydecrypt", &decrypt(&decrypter, pkcs1, CIPHERTEXT)).await.expect(200);
    assert_eq!(opened.text("data_encryption_key"), DEK);
    let privileged = json!({"authentication": token(&admin()), "algorithm": pkcs1, "reason": "takeout",
        "encrypted_data_encryption_key": CIPHERTEXT, "spki_hash": SPKI.trim_end_matches('='),
        "spki_hash_algorithm": "SHA-256", "wrapped_private_key": blob});
    let taken = post(&mut peer, "privilegedprivatekeydecrypt", &privileged).await.expect(200);
    assert_eq!(taken.text("data_encryption_key"), DEK);

    // A padding that is wrong is an answer like others, and the same one each time.
    let mut changed = STANDARD.decode(CIPHERTEXT).unwrap();
    changed[255] ^= 1;
    let wrong = decrypt(&decrypter, pkcs1, &base64(&changed));
    let first = post(&mut peer, "privatekeydecrypt", &wrong).await.expect(200);
    assert_eq!(post(&mut peer, "privatekeydecrypt", &wrong).await.expect(200).body, first.body);
    assert_ne!(first.text("data_encryption_key"), DEK);

    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut unfit = STANDARD.decode(body).unwrap();
    unfit[100] ^= 1;
    let oaep = "RSA/ECB/OAEPwithSHA-256andMGF1Padding";
    let sales = token(&with(user(), "department", "sales".into()));
    let refused = [
        (
            "another key",
            "privatekeysign",
            sign(&with(signer.clone(), "spki_hash", DEK.into()), "SHA256withRSA"),
            403,
            "`spki`",
        ),
        (
            "no key named",
            "privatekeysign",
            sign(&with(signer.clone(), "spki_hash", Value::Null), "SHA256withRSA"),
            403,
            "`spki`",
        ),
        ("to decrypt", "privatekeysign", sign(&decrypter, "SHA256withRSA"), 403, "`role`"),
        ("to sign", "privatekeydecrypt", decrypt(&signer, pkcs1, CIPHERTEXT), 403, "`role`"),
        ("Drive", "privatekeysign", sign(&drive("signer"), "SHA256withRSA"), 403, "`issuer`"),
        ("another hash", "privatekeysign", sign(&signer, "SHA512withRSA"), 400, "`digest`"),
        ("SHA-1", "privatekeysign", sign(&signer, "SHA1withRSA"), 400, "`algorithm`"),
        (
            "another salt",
            "privatekeysign",
            with(salted, "rsa_pss_salt_length", 20.into()),
            400,
            "`rsa_pss_salt_length`",
        ),
        ("unknown", "privatekeydecrypt", decrypt(&decrypter, "RSA", CIPHERTEXT), 400, "`algorithm`"),
        // Whom the policy does not let in learns nothing of that.
        (
            "SHA-1 and not a lawyer's",
            "privatekeysign",
            with(sign(&signer, "SHA1withRSA"), "authentication", sales.as_str().into()),
            403,
            "eu-legal-is-for-lawyers",
        ),
        (
            "unknown and not a lawyer's",
            "privatekeydecrypt",
            with(decrypt(&decrypter, "RSA", CIPHERTEXT), "authentication", sales.as_str().into()),
            403,
            "eu-legal-is-for-lawyers",
        ),
        (
            "no administrator",
            "wrapprivatekey",
            with(wrapping.clone(), "authentication", token(&with(user(), "aud", ADMINS.into())).into()),
            403,
            "`privilege`",
        ),
        (
            "no administrator",
            "privilegedprivatekeydecrypt",
            with(privileged.clone(), "authentication", token(&with(user(), "aud", ADMINS.into())).into()),
            403,
            "`privilege`",
        ),
        (
            "another key",
            "privilegedprivatekeydecrypt",
            with(privileged.clone(), "spki_hash", DEK.into()),
            403,
            "`spki`",
        ),
        (
            "no key at all",
            "wrapprivatekey",
            with(wrapping.clone(), "private_key", base64(&[0x30; 64]).into()),
            400,
            "`private_key`",
        ),
        // The form is right, and the numbers do not fit together: nobody looks for whom the policy does not let in.
        (
            "no key that works, and nobody's",
            "wrapprivatekey",
            with(
                with(wrapping.clone(), "private_key", base64(&unfit).into()),
                "authentication",
                token(&with(admin(), "department", "sales".into())).into(),
            ),
            403,
            "eu-legal-is-for-lawyers",
        ),
    ];
    let mut refusals: Refusals = vec![];
    for (what, method, body, status, check) in refused {
        let answer = post(&mut peer, method, &body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.json());
        refusals.push((answer.operation(), what, check));
        answer.told(status);
    }
    // What was decided before nothing came of it is recorded as done, and that nothing came of it as well.
    let failed = post(&mut peer, "privatekeydecrypt", &decrypt(&decrypter, oaep, CIPHERTEXT)).await;
    let failed = failed.told(400).operation();
    let unfit = with(wrapping.clone(), "private_key", base64(&unfit).into());
    let unfit = post(&mut peer, "wrapprivatekey", &unfit).await.told(400).operation();
    // A key is no private key, and the other way round.
    let swapped = with(unwrap(&user(), &drive("reader"), blob), "wrapped_key", blob.clone());
    post(&mut peer, "unwrap", &swapped).await.told(400);
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    recorded(&events, &refusals);
    let event = log::closing(&events, &signed.operation());
    assert_eq!(
        (&event["action"], &event["protocol"]["says"]["method"]),
        (&json!("decrypt"), &json!("privatekeysign"))
    );
    assert_eq!(event["protocol"]["says"]["message_id"], "<m@corp.example>");
    let says = &event["protocol"]["says"];
    assert_eq!(
        (&says["spki_hash"], &says["algorithm"], &says["digest"]),
        (&json!(SPKI), &json!("SHA256withRSA"), &json!(DIGEST))
    );
    assert_eq!(log::closing(&events, &opened.operation())["protocol"]["says"]["algorithm"], pkcs1);
    for (failed, why) in [(&failed, "does not verify"), (&unfit, "no RSA private key")] {
        assert_eq!(log::closing(&events, failed)["outcome"], "success");
        let parts: Vec<_> = events
            .iter()
            .filter(|event| {
                event["protocol"]["request"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(failed))
            })
            .collect();
        assert_eq!((parts.len(), &parts[0]["outcome"]), (1, &json!("refused")));
        assert!(parts[0]["detail"].as_str().unwrap().contains(why), "{}", parts[0]);
    }
    let secret = pem.lines().nth(5).unwrap();
    for file in log::files(&data) {
        let text = std::fs::read(&file).unwrap();
        assert!(!text.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", file.display());
    }
}
