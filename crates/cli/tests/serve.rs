//! Founding and serving: readiness, signals, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::{Dev, Server, code, holdfast, stderr, stdout, text};
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;

#[test]
fn founded_served_told_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("gateway"));
    let init = [
        "init",
        "--data",
        &data,
        "--origin",
        "audit.example.org",
        "--operator",
        "oscar",
        "--first-tenant",
        "acme",
        "--custodian",
        "carol",
    ];
    let founded = holdfast(init).output().unwrap();
    assert_eq!(code(founded.status), 0, "{}", stderr(&founded));
    assert!(stdout(&founded).contains("oscar.key") && stdout(&founded).contains("carol.pem"));
    let again = holdfast(init).output().unwrap();
    assert!(code(again.status) == 1 && stderr(&again).contains("help: "), "{}", stderr(&again));

    let socket_path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&socket_path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut command =
        holdfast(["serve", "--data", &data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &socket_path);
    let server = Server::start(command);
    let heard = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    assert!(server.ready.contains("metrics at http://127.0.0.1:"), "{}", server.ready);

    let second =
        holdfast(["serve", "--data", &data, "--listen", "127.0.0.1:0", "--admin", "off"]).output().unwrap();
    assert!(code(second.status) == 1 && stderr(&second).contains("help: "), "{}", stderr(&second));

    let carol = |line: &[&str]| {
        let credentials = format!("{data}/credentials");
        let mut command = holdfast(line);
        command
            .env("HOLDFAST_URL", &server.url)
            .env("HOLDFAST_CACERT", format!("{data}/tls/ca.pem"))
            .env("HOLDFAST_CERT", format!("{credentials}/carol.pem"))
            .env("HOLDFAST_KEY", format!("{credentials}/carol.key"))
            .env("HOLDFAST_TENANT", "acme");
        command.output().unwrap()
    };
    assert_eq!(code(carol(&["key", "create", "k"]).status), 0);
    // Who administers keys uses none.
    assert_eq!(code(carol(&["encrypt", "--raw", "/dev/null", "--key", "k"]).status), 3);

    server.signal(Signal::HUP);
    assert_eq!(heard(), "RELOADING=1");
    assert_eq!(heard(), "READY=1");
    assert_eq!(code(carol(&["key", "show", "k"]).status), 0);

    // What is refused is told with its cause and what to do, until a reload is not refused.
    let certificate = format!("{data}/tls/server.pem");
    let kept = std::fs::read(&certificate).unwrap();
    std::fs::remove_file(&certificate).unwrap();
    for _ in 0..2 {
        server.signal(Signal::HUP);
        assert_eq!(heard(), "RELOADING=1");
        let told = heard();
        let status = told.strip_prefix("READY=1\nSTATUS=the last reload was refused: ").expect(&told);
        assert!(status.contains("server.pem`: ") && status.contains("No such file"), "{status}");
        assert!(status.ends_with("; it must be PEM, readable by the user that Holdfast runs as"), "{status}");
    }
    std::fs::write(&certificate, kept).unwrap();
    for told in ["READY=1\nSTATUS=", "READY=1"] {
        server.signal(Signal::HUP);
        assert_eq!(heard(), "RELOADING=1");
        assert_eq!(heard(), told);
    }

    server.ends();
    assert_eq!(heard(), "STOPPING=1");

    let dev = holdfast(["serve", "--dev", "--data", &data, "--listen", "127.0.0.1:0"]).output().unwrap();
    assert!(code(dev.status) == 1 && stderr(&dev).contains("not a dev directory"), "{}", stderr(&dev));
}

#[test]
fn an_origin_must_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("gateway"));
    let refused = holdfast(["init", "--data", &data, "--origin", "a/b"]).output().unwrap();
    assert!(
        code(refused.status) == 1 && stderr(&refused).contains("`a/b` cannot be the origin"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn a_dev_directory_is_marked_for_ever() {
    let dev = Dev::start();
    let data = text(&dev.data());
    let Dev { dir: _kept, server, environment: _ } = dev;
    assert!(server.ready.contains("source ") && server.ready.contains("dev.env"), "{}", server.ready);
    server.ends();
    let plain =
        holdfast(["serve", "--data", &data, "--listen", "127.0.0.1:0", "--admin", "off"]).output().unwrap();
    assert!(code(plain.status) == 1 && stderr(&plain).contains("for ever"), "{}", stderr(&plain));
    let public = holdfast(["serve", "--dev", "--data", &data, "--listen", "0.0.0.0:0"]).output().unwrap();
    assert!(code(public.status) == 1 && stderr(&public).contains("loopback"), "{}", stderr(&public));
}

#[test]
fn the_configuration_is_strict() {
    let dir = tempfile::tempdir().unwrap();
    let reference = holdfast(["serve", "--print-reference"]).output().unwrap();
    let path = dir.path().join("holdfast.toml");
    std::fs::write(&path, &reference.stdout).unwrap();
    let path = text(&path);
    let data = text(&dir.path().join("data"));
    // The reference itself is taken: what is missing then is the gateway.
    let taken = holdfast(["serve", "--config", &path, "--data", &data]).output().unwrap();
    assert!(code(taken.status) == 1 && stderr(&taken).contains("holdfast init"), "{}", stderr(&taken));
    std::fs::write(&path, "[limits]\nconections = 1\n").unwrap();
    let refused = holdfast(["serve", "--config", &path]).output().unwrap();
    assert!(code(refused.status) == 2 && stderr(&refused).contains("conections"), "{}", stderr(&refused));
}
