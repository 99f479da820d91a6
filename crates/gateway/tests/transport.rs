//! TLS, HTTP and what comes before them: what is spoken, what is bounded, what is believed.

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

use holdfast_gateway::config::TlsVersion;
use holdfast_gateway::external_store::AwsXksTable;
use holdfast_gateway::issuer::IssuerTable;
use rustls::{NamedGroup, version};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::api::{Api, T, base64};
use support::authority::{Authority, Leaf};
use support::peer::{LISTENED_TO, PATIENCE, Peer, Settings};
use support::{Dev, dev, dev_with, ekm, issuer, log, settings, trust, xks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn http_2_and_1_1_are_agreed_on_by_alpn() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    for (offered, agreed) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], Some(b"h2".as_slice())),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let peer =
            Peer::connect(gateway.running.address, &trust(&gateway.directory).alpn(offered)).await.unwrap();
        assert_eq!(peer.stream.get_ref().1.alpn_protocol(), agreed);
    }
    assert!(
        Peer::connect(gateway.running.address, &trust(&gateway.directory).alpn(&[b"spdy/3"])).await.is_err()
    );
    for (flag, line) in [("--http2", "http/2 200"), ("--http1.1", "http/1.1 200")] {
        let answer = gateway.curl(&[flag.to_owned()], "GET", "/health/live", "").await.expect(200);
        assert!(answer.headers.starts_with(line), "{}", answer.headers);
        answer.operation();
    }
    // Without ALPN it is HTTP/1.1.
    let mut peer =
        Peer::connect(gateway.running.address, &trust(&gateway.directory).alpn(&[])).await.unwrap();
    peer.ask("GET", "/health/live", "").await.expect(200);
    drop(peer);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_3_with_hybrid_key_exchange_and_1_2_only_by_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let old = trust(&gateway.directory).versions(&[&version::TLS12]);
    assert!(Peer::connect(gateway.running.address, &old).await.is_err());
    let peer = gateway.stranger().await;
    let session = peer.stream.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    drop(peer);
    // Whoever does not know it uses X25519.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(gateway.directory.join("tls/ca.pem")).unwrap();
    use rustls::pki_types::pem::PemObject as _;
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(gateway.running.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519);
    drop(stream);
    gateway.running.shut_down().await.unwrap();

    let mut config = settings(&directory.path().join("data"));
    config.tls.minimum_version = TlsVersion::V1_2;
    let gateway = dev_with(config).await;
    let mut peer = Peer::connect(gateway.running.address, &old).await.unwrap();
    assert_eq!(peer.stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    peer.ask("GET", "/health/live", "").await.expect(200);
    let newest = gateway.stranger().await;
    assert_eq!(newest.stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    drop((peer, newest));
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let before = trust(&gateway.directory);
    let mut live = gateway.developer().await;
    let authority = Authority::new("new server authority");
    let after = support::peer::Settings::trusting(authority.pem.as_bytes());
    let server = authority.issue_server();
    let tls = gateway.directory.join("tls");
    std::fs::write(tls.join("server.pem"), &server.certificate).unwrap();
    std::fs::write(tls.join("server.key"), &server.key).unwrap();
    assert!(Peer::connect(gateway.running.address, &after).await.is_err(), "files alone change nothing");
    gateway.running.reload().unwrap();
    Peer::connect(gateway.running.address, &after).await.unwrap();
    assert!(Peer::connect(gateway.running.address, &before).await.is_err());
    live.ask("GET", &format!("{T}/keys"), "").await.expect(200);

    let other = authority.issue_server();
    for (file, text) in [("server.pem", "nonsense"), ("server.key", ""), ("server.key", &other.key)] {
        std::fs::write(tls.join(file), text).unwrap();
        let fault = gateway.running.reload().unwrap_err();
        assert!(fault.remedy_text().is_some());
        Peer::connect(gateway.running.address, &after).await.unwrap();
        std::fs::write(tls.join("server.pem"), &server.certificate).unwrap();
        std::fs::write(tls.join("server.key"), &server.key).unwrap();
    }
    drop(live);
    gateway.running.shut_down().await.unwrap();
}

/// What clients are shown is what is told, whatever lies on disk meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_the_certificate_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let expiry = || {
        let text = gateway.running.gateway().metrics_text();
        let line = text.lines().find_map(|line| {
            line.strip_prefix("holdfast_server_certificate_expiry_timestamp_seconds ")?.parse::<u64>().ok()
        });
        line.unwrap()
    };
    let is_told =
        || gateway.running.gateway().status().notices.iter().any(|it| it.contains("certificate expires at"));
    let before = expiry();
    assert!(!is_told());
    let authority = Authority::new("new server authority");
    // Within thirty days.
    let [server, other] = [authority.issue_server(), authority.issue_server()];
    let tls = gateway.directory.join("tls");
    std::fs::write(tls.join("server.pem"), &server.certificate).unwrap();
    assert_eq!((expiry(), is_told()), (before, false), "files alone change nothing");
    std::fs::write(tls.join("server.key"), &other.key).unwrap();
    gateway.running.reload().unwrap_err();
    assert_eq!((expiry(), is_told()), (before, false), "what is refused is not in force");
    std::fs::write(tls.join("server.key"), &server.key).unwrap();
    gateway.running.reload().unwrap();
    assert!(expiry() < before && is_told());
    std::fs::remove_file(tls.join("server.pem")).unwrap();
    assert!(is_told());
    gateway.running.shut_down().await.unwrap();
}

/// One thing that is refused keeps nothing else from being exchanged: least of all an authority from being taken away.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_a_reload_stays_and_all_else_is_exchanged() {
    const STORE: &str = "xks.example.org";
    const KMS: &str = "cks.kms.eu-central-1.amazonaws.com";
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let [azure, amazon, next, servers] = ["Microsoft", "Amazon", "the next", "servers"].map(Authority::new);
    let [of_azure, of_amazon] = ["managed-hsm.pem", "amazon.pem"].map(|name| directory.path().join(name));
    std::fs::write(&of_amazon, &amazon.pem).unwrap();
    let mut config = settings(&data);
    config.azure_ekm = vec![ekm::table(directory.path(), &azure, "/acme", "azure-ekm")];
    config.aws_xks = vec![AwsXksTable {
        server_name: STORE.into(),
        client_ca_file: of_amazon.clone(),
        client_names: vec![KMS.into()],
        ..xks::table("/acme", "aws")
    }];
    let peers = directory.path().join("peers.pem");
    std::fs::write(&peers, &azure.pem).unwrap();
    config.issuer = vec![IssuerTable {
        keys_url: "https://127.0.0.1:9/keys".into(),
        ca_file: peers.clone(),
        ..issuer::table("https://idp.example.org", &["holdfast"], "EdDSA", Path::new(""))
    }];
    let gateway = dev_with(config).await;
    // Told until it is mended, whether it is of TLS or of anything else.
    let refused = || {
        let notices = gateway.running.gateway().status().notices;
        let told: Vec<_> =
            notices.into_iter().filter(|it| it.contains("the last reload was refused")).collect();
        let is_measured = gateway.running.gateway().metrics_text().contains("\nholdfast_reload_refused 1\n");
        assert_eq!(is_measured, !told.is_empty());
        told.join(" ")
    };
    assert_eq!(refused(), "");
    let mut api = Api::developer(&gateway).await;
    ekm::register(&mut api, &["azure-ekm"]).await;
    let mut pool = ekm::connect(&gateway, &azure.issue_named(None, ekm::POOL, 5)).await;
    ekm::ask(&mut pool, "/acme/info", &ekm::about()).await.expect(200);

    let tls = gateway.directory.join("tls");
    let server = servers.issue_server_as(&["localhost", STORE]);
    std::fs::write(tls.join("server.pem"), &server.certificate).unwrap();
    std::fs::write(tls.join("server.key"), &server.key).unwrap();
    std::fs::write(&of_azure, &next.pem).unwrap();
    std::fs::write(&of_amazon, "nonsense").unwrap();
    let fault = gateway.running.reload().unwrap_err();
    assert!(fault.remedy_text().is_some());
    let told = fault.to_string();
    assert!(told.contains(STORE) && told.contains("amazon.pem") && !told.contains("managed-hsm"), "{told}");
    let noticed = refused();
    assert!(noticed.contains(&told) && noticed.contains("the next start would fail"), "{noticed}");
    assert!(noticed.contains("in PEM") && !noticed.contains("peers.pem"), "{noticed}");
    ekm::ask(&mut pool, "/acme/info", &ekm::about()).await.ekm_error(401, "Unauthorized");
    let as_leaf = |name, leaf: &Leaf| {
        let settings = Settings::trusting(servers.pem.as_bytes()).name(name);
        settings.identity(leaf.certificate.clone(), leaf.key.clone())
    };
    let of_next = as_leaf("localhost", &next.issue_named(None, ekm::POOL, 5));
    let mut pool = Peer::connect(gateway.running.address, &of_next).await.unwrap();
    ekm::ask(&mut pool, "/acme/info", &ekm::about()).await.expect(200);
    // Where the new ones are refused, those before are demanded.
    let live = async |leaf: &Leaf| {
        let mut peer = Peer::connect(gateway.running.address, &as_leaf(STORE, leaf)).await.unwrap();
        peer.try_ask("GET", "/health/live", "").await.map(|answer| answer.status)
    };
    let kms = amazon.issue_named(Some(KMS), "x", 5);
    assert_eq!(live(&kms).await, Some(200));
    assert_eq!(live(&next.issue_named(Some(KMS), "x", 5)).await, None);

    // Nor does a certificate of the server's own that is refused.
    std::fs::write(tls.join("server.pem"), "nonsense").unwrap();
    std::fs::write(&of_azure, &azure.pem).unwrap();
    let told = gateway.running.reload().unwrap_err().to_string();
    assert!(told.contains("server.pem") && told.contains("amazon.pem"), "{told}");
    ekm::ask(&mut pool, "/acme/info", &ekm::about()).await.ekm_error(401, "Unauthorized");
    assert_eq!(live(&kms).await, Some(200));
    assert!(refused().contains("server.pem") && refused().contains("amazon.pem"), "{}", refused());

    std::fs::write(tls.join("server.pem"), &server.certificate).unwrap();
    std::fs::write(&of_amazon, &amazon.pem).unwrap();
    std::fs::write(&peers, "nonsense").unwrap();
    gateway.running.reload().unwrap_err();
    assert!(refused().contains("peers.pem") && !refused().contains("amazon.pem"), "{}", refused());
    std::fs::write(&peers, &next.pem).unwrap();
    gateway.running.reload().unwrap();
    assert_eq!(refused(), "");
    drop(api);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_is_believed_where_it_is_configured_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\xc6\x33\x64\x01\xdc\x04\x01\xbb";
    let gateway = dev(&data).await;
    let token = |gateway: &Dev| trust(&data).token(&gateway.environment["HOLDFAST_TOKEN"]);
    let settings_of = token(&gateway);
    assert!(Peer::connect_after(gateway.running.address, &settings_of, v1).await.is_err());
    let keys = format!("{T}/keys");
    let direct = gateway.developer().await.ask("GET", &keys, "").await.expect(200).operation();
    gateway.running.shut_down().await.unwrap();

    let mut config = settings(&data);
    config.listen.proxy_protocol_from = vec![[127, 0, 0, 1].into()];
    let gateway = dev_with(config).await;
    let settings_of = token(&gateway);
    assert!(
        Peer::connect(gateway.running.address, &settings_of).await.is_err(),
        "a peer went around the balancer"
    );
    let mut recorded = vec![(direct, json!("127.0.0.1"))];
    for (header, source) in [
        (&v1[..], json!("192.0.2.7")),
        (v2, json!("192.0.2.9")),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", json!("2001:db8::7")),
    ] {
        let mut peer = Peer::connect_after(gateway.running.address, &settings_of, header).await.unwrap();
        recorded.push((peer.ask("GET", &keys, "").await.expect(200).operation(), source));
    }
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    for (operation, source) in recorded {
        assert_eq!(log::closing(&events, &operation)["source"], source);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_before_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = dev(&directory.path().join("data")).await;
    let keys = format!("{T}/keys");
    // Declared: nothing of it is awaited.
    let mut peer = gateway.developer().await;
    let head = peer.head("POST", &keys, 1 << 30);
    peer.send(head.as_bytes()).await.unwrap();
    peer.answer().await.unwrap().refused(413, "too-large");
    // Not declared: no more than the limit is kept.
    let mut peer = gateway.developer().await;
    let head = peer.head("POST", &keys, 0).replace("content-length: 0", "transfer-encoding: chunked");
    let length = (64 << 10) + 1;
    let chunk = format!("{head}{length:x}\r\n{}\r\n", " ".repeat(length));
    peer.send(chunk.as_bytes()).await.unwrap();
    peer.answer().await.unwrap().refused(413, "too-large");
    // A field that is too large in a body that is not.
    let mut peer = gateway.developer().await;
    peer.post(&keys, &json!({"name": "k"})).await.expect(201);
    let plaintext = base64(&vec![0; (1 << 20) + 3]);
    let encrypt = format!("{keys}/k/encrypt");
    peer.post(&encrypt, &json!({"plaintext": plaintext})).await.refused(413, "too-large");
    peer.post(&encrypt, &json!({"plaintext": base64(&vec![0; 1 << 20])})).await.expect(200);
    let items = vec![json!({"key": "k", "operation": "public-key"}); 257];
    peer.post(&format!("{T}/batch"), &json!({"items": items})).await.refused(413, "too-large");
    drop(peer);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slow_are_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = settings(&directory.path().join("data"));
    config.limits.handshake_seconds = 1;
    config.limits.header_seconds = 1;
    config.limits.body_seconds = 1;
    let gateway = dev_with(config).await;
    let address = gateway.running.address;
    let silent = async {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tokio::time::timeout(PATIENCE, tcp.read(&mut [0]))
            .await
            .expect("the end of a silent connection")
            .unwrap_or(0)
    };
    // On a busy machine whoever is not meant to be slow may be so, too, and comes again.
    let settings = trust(&gateway.directory).token(&gateway.environment["HOLDFAST_TOKEN"]);
    let connect = async || loop {
        if let Ok(peer) = Peer::connect(address, &settings).await {
            break peer;
        }
    };
    let served = async |path| loop {
        let mut peer = connect().await;
        if let Some(answer) = peer.try_ask("GET", path, "").await {
            answer.expect(200);
            break peer;
        }
    };
    let slow_header = async {
        let mut peer = connect().await;
        let _sent = peer.send(b"GET /health/live HTTP/1.1\r\nhost: ").await;
        peer.closed().await;
    };
    let idle = async { served("/health/live").await.closed().await };
    let slow_body = async {
        loop {
            let mut peer = connect().await;
            let head = peer.head("POST", &format!("{T}/keys"), 100);
            let sent = peer.send(format!("{head}{{").as_bytes()).await;
            if let (Ok(()), Some(answer)) = (sent, peer.answer().await) {
                break answer.refused(504, "deadline");
            }
        }
    };
    let ended = async { tokio::join!(silent, slow_header, idle, slow_body) };
    tokio::time::timeout(PATIENCE, ended).await.expect("an end of each");
    drop(tokio::time::timeout(PATIENCE, served("/health/ready")).await.expect("an answer"));
    gateway.running.shut_down().await.unwrap();
}

/// Whoever is refused in the handshake may go on sending for a while: that it was refused stands in the log by then, as that.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_in_the_handshake_is_counted_at_once_and_as_that() {
    let azure = Authority::new("Microsoft");
    let begun = Instant::now();
    // A handshake that a busy machine did not end in its time is another one's, at another gateway.
    let noise: Vec<_> = loop {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut config = settings(&data);
        // Less than a peer that is refused is listened to.
        config.limits.handshake_seconds = 1;
        config.azure_ekm = vec![ekm::table(directory.path(), &azure, "/acme", "azure-ekm")];
        let gateway = dev_with(config).await;
        let settings_of = trust(&gateway.directory).name("localhost");
        let connecting = Instant::now();
        let refused = async {
            let mut peer = Peer::connect(gateway.running.address, &settings_of).await?;
            assert!(peer.try_ask("GET", "/health/live", "").await.is_none());
            // The gateway's side is closed before it listens on; ours is not.
            let tcp = peer.stream.get_mut().0;
            while tcp.read(&mut [0; 1024]).await? > 0 {}
            std::io::Result::Ok(peer)
        };
        let refused = refused.await;
        let took = connecting.elapsed();
        gateway.running.shut_down().await.unwrap();
        if took < Duration::from_secs(1) {
            drop(refused.unwrap());
            let events = log::events(&data, "_gateway");
            break events.into_iter().filter(|event| event["action"] == "noise").collect();
        }
        assert!(begun.elapsed() < PATIENCE, "whoever is refused is not told in time: {took:?}");
    };
    let counted: Vec<_> =
        noise.iter().map(|it| [&it["context"]["reason"], &it["context"]["count"]]).collect();
    assert_eq!(counted, [[&json!("handshake"), &json!("1")]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_share_of_connections() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = settings(&directory.path().join("data"));
    config.limits.connections_per_address = 3;
    let gateway = dev_with(config).await;
    let address = gateway.running.address;
    let trust = trust(&gateway.directory);
    let mut peers = vec![];
    for _ in 0..3 {
        let mut peer = Peer::connect(address, &trust).await.unwrap();
        peer.ask("GET", "/health/live", "").await.expect(200);
        peers.push(peer);
    }
    assert!(Peer::connect(address, &trust).await.is_err());
    for peer in &mut peers {
        peer.ask("GET", "/health/live", "").await.expect(200);
    }
    peers.pop();
    // The place is free once the gateway has noticed.
    let again = async {
        loop {
            if let Ok(peer) = Peer::connect(address, &trust).await {
                break peer;
            }
        }
    };
    let mut again = tokio::time::timeout(PATIENCE, again).await.unwrap();
    again.ask("GET", "/health/live", "").await.expect(200);
    drop((peers, again));
    gateway.running.shut_down().await.unwrap();
}

/// A gateway that refuses whoever asks for `localhost`, with so many connections in all and for each address.
async fn refusing(directory: &Path, connections: usize, connections_per_address: usize) -> Dev {
    let azure = Authority::new("Microsoft");
    let mut config = settings(&directory.join("data"));
    config.limits.handshake_seconds = 600;
    (config.limits.connections, config.limits.connections_per_address) =
        (connections, connections_per_address);
    config.azure_ekm = vec![ekm::table(directory, &azure, "/acme", "azure-ekm")];
    dev_with(config).await
}

/// Is refused, and stays: from here on the gateway listens.
async fn is_refused(gateway: &Dev) -> Peer {
    let settings = trust(&gateway.directory).name("localhost");
    let mut peer = Peer::connect(gateway.running.address, &settings).await.unwrap();
    while peer.stream.get_mut().0.read(&mut [0; 1024]).await.unwrap() > 0 {}
    peer
}

/// What of these is so while two peers who were refused are listened to still. A machine that was busy for as long as they are is asked again.
async fn beside_two_who_were_refused<T>(gateway: &Dev, seen: impl AsyncFn([&mut Peer; 2]) -> T) -> T {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let refused = Instant::now();
        let seen = tokio::time::timeout(LISTENED_TO, async {
            let (mut older, mut newer) = (is_refused(gateway).await, is_refused(gateway).await);
            seen([&mut older, &mut newer]).await
        });
        if let Ok(seen) = seen.await
            && refused.elapsed() < LISTENED_TO
        {
            return seen;
        }
    }
    panic!("whoever is refused is in others' way for as long as it is listened to");
}

/// Somebody who is served, if anybody is.
async fn next(gateway: &Dev) -> Option<Peer> {
    let mut next = Peer::connect(gateway.running.address, &trust(&gateway.directory)).await.ok()?;
    next.try_ask("GET", "/health/live", "").await.map(|_| next)
}

/// Waits until nobody listens to a peer any more.
async fn is_let_go(peer: &mut Peer) {
    while peer.stream.get_mut().0.write_all(b" ").await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// Whoever was refused in the handshake is listened to in its places, so that no more are than there are places, and makes way like any stranger.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_refused_keeps_its_places_and_makes_way() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = refusing(&directory.path().join("all"), 2, 100).await;
    beside_two_who_were_refused(&gateway, async |[older, newer]| {
        let _served = next(&gateway).await.expect("the older one makes way");
        is_let_go(older).await;
        newer.stream.get_mut().0.write_all(b" ").await.expect("the newer one does not");
    })
    .await;
    gateway.running.shut_down().await.unwrap();
    let gateway = refusing(&directory.path().join("each"), 100, 2).await;
    let served = beside_two_who_were_refused(&gateway, async |[older, _newer]| {
        let third = next(&gateway).await.is_some();
        // Its place is free once the gateway has noticed.
        older.stream.get_mut().0.shutdown().await.unwrap();
        while next(&gateway).await.is_none() {}
        third
    });
    assert!(!served.await, "a third one of one address");
    gateway.running.shut_down().await.unwrap();
}

/// An order to seal that is refused makes nobody a caller: where there is no room, whoever gave it makes way first.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_orders_a_seal_in_vain_makes_way() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = settings(&directory.path().join("data"));
    config.limits.connections = 4;
    let gateway = dev_with(config).await;
    let connect = async || Peer::connect(gateway.running.address, &trust(&gateway.directory)).await.unwrap();
    let mut known = gateway.developer().await;
    known.ask("GET", "/v1/tenants/dev/keys", "").await.expect(200);
    let mut orders = connect().await;
    let order = json!({"generation": 1, "share": 1, "answer": "AAAA"});
    assert_ne!(orders.post("/v1/seal", &order).await.status, 200);
    let mut strangers = vec![connect().await, connect().await];
    let mut next = connect().await;
    orders.closed().await;
    for peer in strangers.iter_mut().chain([&mut next, &mut known]) {
        peer.ask("GET", "/health/live", "").await.expect(200);
    }
    drop((strangers, next, known));
    gateway.running.shut_down().await.unwrap();
}
