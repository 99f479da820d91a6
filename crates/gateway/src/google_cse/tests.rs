use super::*;

fn table() -> GoogleCseTable {
    toml::from_str(
        r#"
kacls_url = "https://kacls.example/v1"
tenant = "acme"
caller = "google-cse"
key = "workspace"
owner_domains = ["corp.example"]
audiences = ["client"]
providers = ["https://idp.example"]
"#,
    )
    .unwrap()
}

fn issuer(audiences: &[&str]) -> IssuerTable {
    let mut table =
        IssuerTable::of_keys("https://idp.example".into(), "https://idp.example/keys".into(), PathBuf::new());
    table.audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
    table
}

#[test]
fn a_service_is_found_by_host_and_path() {
    let other = GoogleCseTable { kacls_url: "https://other.example".into(), ..table() };
    let services = Services::read(&[table(), other]).unwrap();
    let found = |host, path| services.at(host, path).map(|(service, rest)| (service.url.to_string(), rest));
    assert_eq!(found("kacls.example", "/v1/wrap"), Some(("https://kacls.example/v1".into(), "/wrap")));
    assert_eq!(found("kacls.example", "/v1"), Some(("https://kacls.example/v1".into(), "")));
    assert_eq!(found("other.example", "/v1/wrap"), Some(("https://other.example".into(), "/v1/wrap")));
    for (host, path) in [("kacls.example", "/v11/wrap"), ("kacls.example", "/"), ("evil.example", "/v1/wrap")]
    {
        assert_eq!(found(host, path), None, "{host} {path}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_url() {
    let list = |text: &str| vec![text.to_owned()];
    for (bad, names) in [
        (GoogleCseTable { kacls_url: "http://kacls.example".into(), ..table() }, "kacls_url"),
        (GoogleCseTable { kacls_url: "https://kacls.example/v1?x".into(), ..table() }, "kacls_url"),
        (GoogleCseTable { tenant: "No".into(), ..table() }, "tenant"),
        (GoogleCseTable { caller: String::new(), ..table() }, "caller"),
        (GoogleCseTable { key: "/".into(), ..table() }, "key"),
        (GoogleCseTable { signing_keys: list("/"), ..table() }, "signing_keys"),
        (GoogleCseTable { earlier_keys: list("/"), ..table() }, "earlier_keys"),
        (GoogleCseTable { signing_keys: vec!["a".into(), "a".into()], ..table() }, "signing_keys"),
        (GoogleCseTable { claims: vec!["a".into(), "b".into(), "a".into()], ..table() }, "claims"),
        (GoogleCseTable { claims: list("email"), ..table() }, "`email`"),
        (GoogleCseTable { guest_providers: list("https://idp.example"), ..table() }, "guest_providers"),
        (GoogleCseTable { owner_domains: vec![], ..table() }, "owner_domains"),
        (GoogleCseTable { providers: vec![], ..table() }, "providers"),
        (GoogleCseTable { audiences: vec![], ..table() }, "audiences"),
        (GoogleCseTable { providers: list(""), ..table() }, "providers"),
        (GoogleCseTable { admins: list("a@corp.example"), ..table() }, "admin_providers"),
        (GoogleCseTable { admin_audiences: list("admins"), ..table() }, "admin_audiences"),
        (
            GoogleCseTable {
                admins: list("a@corp.example"),
                admin_providers: list("https://idp.example"),
                ..table()
            },
            "admin_audiences",
        ),
        (GoogleCseTable { take_from: list("http://old.example"), ..table() }, "take_from"),
        (GoogleCseTable { give_to: list("https://KACLS.example/v1/"), ..table() }, "give_to"),
        (GoogleCseTable { origins: list("*"), ..table() }, "origins"),
        (GoogleCseTable { request_headers: list("a\r\nb"), ..table() }, "request_headers"),
        (
            GoogleCseTable { perimeter_keys: [(String::new(), "k".into())].into(), ..table() },
            "perimeter_keys",
        ),
    ] {
        let fault = Services::read(&[bad]).unwrap_err();
        assert!(format!("{fault:?}").contains(names), "{fault:?}");
    }
    for within in ["https://kacls.example/v1/", "https://kacls.example/v1/x", "https://kacls.example"] {
        let other = GoogleCseTable { kacls_url: within.into(), ..table() };
        assert!(Services::read(&[table(), other]).is_err(), "{within}");
    }
    let other = GoogleCseTable { kacls_url: "https://kacls.example/v11".into(), ..table() };
    assert!(Services::read(&[table(), other]).is_ok());
}

#[test]
fn an_identity_provider_is_an_issuer_and_its_tokens_for_the_service_are_for_nothing_else() {
    assert!(check(&[table()], &[issuer(&[])]).is_ok());
    assert!(check(&[table()], &[issuer(&["holdfast"])]).is_ok());
    assert!(check(&[table()], &[]).unwrap_err().to_string().contains("https://idp.example"));
    assert!(check(&[table()], &[issuer(&["client"])]).unwrap_err().to_string().contains("`client`"));
    let with_admins = |url: &str, audience: &str| GoogleCseTable {
        kacls_url: url.into(),
        admins: vec!["a@corp.example".into()],
        admin_providers: vec!["https://idp.example".into()],
        admin_audiences: vec![audience.into()],
        ..table()
    };
    let other = "https://other.example";
    assert!(check(&[table(), with_admins(other, "admins")], &[issuer(&["holdfast"])]).is_ok());
    for (admins, native) in [
        ("admins", "admins"),
        ("client", "holdfast"),
        ("cse-authorization", "holdfast"),
        ("admins", "cse-authorization"),
        ("admins", "kacls-migration"),
        ("admins", "kacls-delegation"),
    ] {
        // Of one service or of two.
        for tables in [vec![with_admins(other, admins)], vec![table(), with_admins(other, admins)]] {
            let refused = check(&tables, &[issuer(&[native])]);
            let named = if native == "holdfast" { admins } else { native };
            assert!(refused.unwrap_err().to_string().contains(&format!("`{named}`")), "{admins} {native}");
        }
    }
}

#[test]
fn google_and_the_peers_are_believed_without_a_table_of_their_own() {
    let peer = "https://old.example/v1/".to_owned();
    // Whom keys are only taken from shows no token here.
    let source = "https://source.example/v1".to_owned();
    let table = GoogleCseTable { give_to: vec![peer.clone()], take_from: vec![source], ..table() };
    let own = IssuerTable::of_keys(Application::Drive.issuer().into(), String::new(), "keys".into());
    let believed = believed(&[own.clone(), issuer(&[])], std::slice::from_ref(&table));
    assert_eq!(believed.len(), 7);
    assert_eq!(believed.iter().filter(|issuer| **issuer == own).count(), 1);
    let urls: Vec<_> = believed.iter().map(|issuer| issuer.keys_url.as_str()).collect();
    assert!(urls.contains(&"https://old.example/v1/certs"), "{urls:?}");
    // As it calls itself: without the slash that stands in the configuration.
    assert!(believed.iter().any(|issuer| issuer.issuer == "https://old.example/v1"));
    let meet = "https://www.googleapis.com/service_accounts/v1/jwk/gsuitecse-tokenissuer-meet@system.gserviceaccount.com";
    assert!(urls.contains(&meet), "{urls:?}");
    // Nobody shows such a token to the native API.
    assert!(believed.iter().all(|issuer| issuer.audiences.is_empty()));
}

#[test]
fn an_administrator_is_named_by_provider_and_address_in_letters_of_ascii() {
    let table = GoogleCseTable {
        admins: vec!["mark@corp.example".into()],
        admin_providers: vec!["https://idp.example".into()],
        admin_audiences: vec!["admins".into()],
        ..table()
    };
    let services = Services::read(&[table]).unwrap();
    let is_admin = |issuer, email| services.0[0].is_admin(issuer, email);
    assert!(is_admin("https://idp.example", Some("Mark@CORP.example")));
    for (issuer, email) in [
        // The Kelvin sign, whose small letter is `k`.
        ("https://idp.example", Some("mar\u{212a}@corp.example")),
        ("https://idp.example", Some("mark@corp.example ")),
        ("https://idp.example", None),
        ("https://other.example", Some("mark@corp.example")),
    ] {
        assert!(!is_admin(issuer, email), "{issuer} {email:?}");
    }
}

/// The example in the reference file, made ready, shows every setting.
#[test]
fn the_reference_file_shows_a_service_with_every_setting() {
    let example = crate::config::example("google_cse");
    let shown: toml::Table = example.parse().unwrap();
    let table: GoogleCseTable = toml::from_str(&example).unwrap();
    assert_eq!(toml::Value::try_from(&table).unwrap(), toml::Value::Table(shown), "a setting is not shown");
    assert!(Services::read(&[table]).is_ok());
}

#[test]
fn one_authority_that_is_refused_keeps_no_other_from_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["first.pem", "second.pem"].map(|name| directory.path().join(name));
    let authority = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    let taking = |kacls_url: &str, file: &PathBuf| {
        std::fs::write(file, authority("before")).unwrap();
        GoogleCseTable {
            kacls_url: kacls_url.into(),
            signing_keys: vec!["signs".into()],
            take_from: vec!["https://elsewhere.example".into()],
            peers_ca_file: file.clone(),
            ..table()
        }
    };
    let services = Services::of(&[
        taking("https://kacls.example/v1", &first),
        GoogleCseTable { caller: "other".into(), ..taking("https://other.example/v1", &second) },
    ]);
    let services = services.unwrap();
    let clients = || services.0.iter().map(|service| service.client.as_ref().unwrap().load_full());
    let before: Vec<_> = clients().collect();
    std::fs::write(&first, "nonsense").unwrap();
    let told = services.reload().unwrap_err().to_string();
    assert!(told.contains("first.pem") && !told.contains("second.pem"), "{told}");
    let stayed: Vec<_> = clients().zip(&before).map(|(now, before)| Arc::ptr_eq(&now, before)).collect();
    assert_eq!(stayed, [true, false]);
    std::fs::write(&second, "nonsense").unwrap();
    let told = services.reload().unwrap_err().to_string();
    assert!(told.contains("first.pem") && told.contains("second.pem"), "{told}");
}
