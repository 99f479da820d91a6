//! A real witness process and plain curl: every status of the protocol's table, who may run it, and what it still knows
//! after it was killed.

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

use common::{Server, code, holdfast, stderr, stdout, text};
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::key::{Signer, VerifierKey};
use holdfast_audit::merkle::{Frontier, Hash, Nodes, consistency_proof, leaf_hash, root};
use holdfast_audit::note::Note;
use holdfast_audit::witness::{Request, origin_hash};
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::Command;
use zeroize::Zeroizing;

const ORIGIN: &str = "audit.example.org/tenant-a";

fn log(seed: u8) -> Signer {
    Signer::from_seed(ORIGIN, &Zeroizing::new([seed; 32])).unwrap()
}

/// A history whose leaves are those of one fork.
#[derive(Clone, Copy)]
struct History(u8);

impl Nodes for History {
    type Error = ();

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, ()> {
        let mut frontier = Frontier::default();
        for leaf in index << level..(index + 1) << level {
            frontier.push(leaf_hash(&[self.0, (leaf >> 8) as u8, leaf as u8]));
        }
        Ok(frontier.root())
    }
}

impl History {
    fn request(mut self, old: u64, size: u64) -> Request {
        let root = root(&mut self, 0, size).unwrap();
        let note =
            Checkpoint { origin: ORIGIN.to_owned(), size, root, extensions: vec![] }.sign(&log(1)).unwrap();
        Request { old, proof: consistency_proof(&mut self, old, size).unwrap(), note }
    }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        let made = place.init();
        assert_eq!(code(made.status), 0, "{}", stderr(&made));
        place
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("witness")
    }

    fn init(&self) -> std::process::Output {
        let data = text(&self.data());
        holdfast(["witness", "init", "--data", &data, "--name", "witness.example.org/w1"]).output().unwrap()
    }

    fn vkey(&self) -> VerifierKey {
        std::fs::read_to_string(self.data().join("witness.vkey")).unwrap().trim_end().parse().unwrap()
    }

    fn command(&self, more: &[&str]) -> Command {
        let data = text(&self.data());
        let line = ["witness", "serve", "--data", &data, "--listen", "127.0.0.1:0"];
        holdfast(line.iter().chain(more))
    }

    fn serve(&self) -> Server {
        Server::start(self.command(&["--log", &log(1).verifier().to_string()]))
    }

    /// Sends a body with curl; gives status, type and body.
    fn curl(&self, server: &Server, body: &[u8], more: &[&str]) -> (u16, String, String) {
        let file = self.dir.path().join("body");
        std::fs::write(&file, body).unwrap();
        let url = format!("{}/add-checkpoint", server.url);
        let mut command = Command::new("curl");
        command.args(["-sS", "-w", "\n%{http_code} %{content_type}", "--data-binary"]);
        command.arg(format!("@{}", file.display())).args(more).arg(url);
        let output = command.output().unwrap();
        let said = stdout(&output);
        let (body, last) = said.rsplit_once('\n').unwrap_or_else(|| panic!("{}", stderr(&output)));
        let (status, kind) = last.split_once(' ').unwrap();
        (status.parse().unwrap(), kind.to_owned(), body.to_owned())
    }

    fn submit(&self, server: &Server, request: &Request) -> (u16, String, String) {
        self.curl(server, request.to_string().as_bytes(), &[])
    }
}

fn get(url: &str) -> (u16, String) {
    let output = Command::new("curl").args(["-sS", "-w", "\n%{http_code}", url]).output().unwrap();
    let said = stdout(&output);
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn every_status_of_the_table_over_curl() {
    if !common::tool("curl") {
        return;
    }
    let place = Place::new();
    let server = place.serve();
    assert!(server.ready.contains(&place.vkey().to_string()), "{}", server.ready);
    let (one, other) = (History(1), History(2));
    let status = |body: &str| place.curl(&server, body.as_bytes(), &[]).0;

    // 400, 413, 404, 403.
    assert_eq!(status("old 0\n\nnothing\n"), 400);
    let mut backwards = one.request(3, 3);
    backwards.old = 4;
    assert_eq!(place.submit(&server, &backwards).0, 400);
    assert_eq!(status(&"x".repeat((64 << 10) + 1)), 413);
    let good = one.request(0, 3).to_string();
    let (unknown, _, told) = place.curl(&server, good.replace("tenant-a", "tenant-b").as_bytes(), &[]);
    assert!(unknown == 404 && told.contains("tenant-b") && told.contains("verifier key"), "{told}");
    assert_eq!(status(&good.replace("\n3\n", "\n4\n")), 403);
    let forged = Checkpoint::from_text(one.request(0, 3).note.text()).unwrap().sign(&log(9)).unwrap();
    assert_eq!(place.submit(&server, &Request { note: forged, ..one.request(0, 3) }).0, 403);

    // 409 with the size, in its own type; 422; 200 with a line that its key made.
    let conflict = (409, "text/x.tlog.size".to_owned(), "0\n".to_owned());
    assert_eq!(place.submit(&server, &one.request(3, 7)), conflict);
    assert_eq!(place.submit(&server, &Request { proof: vec![Hash([0; 32])], ..one.request(0, 3) }).0, 422);
    let (cosigned, kind, line) = place.submit(&server, &one.request(0, 3));
    assert_eq!((cosigned, kind.as_str()), (200, "text/plain; charset=utf-8"));
    let note = Note::parse(format!("{}{line}", one.request(0, 3).note).as_bytes()).unwrap();
    let signed = note.verify(&[&place.vkey()]).unwrap();
    assert!(signed.len() == 1 && signed[0].time.unwrap() > 1_700_000_000, "{signed:?}");
    assert_eq!(place.submit(&server, &one.request(2, 7)).2, "3\n");
    assert_eq!(place.submit(&server, &other.request(3, 7)).0, 422);
    assert_eq!(place.submit(&server, &other.request(3, 3)).0, 422);
    assert_eq!(place.submit(&server, &one.request(3, 300)).0, 200);

    // What it cosigned last can be read; anything else is not there, and no other method is.
    let newest = format!("{}/{}/checkpoint", server.url, origin_hash(ORIGIN));
    let (found, note) = get(&newest);
    assert_eq!(found, 200);
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(note.verify(&[&place.vkey(), log(1).verifier()]).unwrap().len(), 2);
    assert_eq!(Checkpoint::from_text(note.text()).unwrap().size, 300);
    assert_eq!(get(&format!("{}/{}/checkpoint", server.url, origin_hash("x"))).0, 404);
    assert_eq!(get(&format!("{}/", server.url)).0, 404);
    assert_eq!(get(&format!("{}/add-checkpoint", server.url)).0, 405);
    assert_eq!(place.curl(&server, b"", &["-X", "PUT"]).0, 405);
    let (ended, said) = server.stop();
    assert_eq!(code(ended), 0, "{said}");
}

#[test]
fn its_directory_is_its_own() {
    let place = Place::new();
    use std::os::unix::fs::PermissionsExt as _;
    let key = place.data().join("witness.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = place.init();
    assert!(
        code(again.status) == 1 && stderr(&again).contains("holds a witness already"),
        "{}",
        stderr(&again)
    );
    let fails = |command: &mut Command, with: &str| {
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert!(code(output.status) == 1 && said.contains(with) && said.contains("help: "), "{said}");
    };
    let list = place.dir.path().join("logs");
    std::fs::write(&list, "# none yet\n").unwrap();
    fails(&mut place.command(&["--logs", &text(&list)]), "no log is named");
    fails(&mut place.command(&["--log", &place.vkey().to_string()]), "is a witness, not a log");
    let server = place.serve();
    fails(&mut place.command(&["--logs", &text(&list)]), "in use by process");
    server.ends();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    fails(&mut place.command(&["--logs", &text(&list)]), "can be read by others");
    std::fs::remove_file(&key).unwrap();
    fails(&mut place.command(&["--logs", &text(&list)]), "there is no witness");
}

#[test]
fn a_new_log_is_known_after_sighup_over_tls() {
    if !common::tool("curl") {
        return;
    }
    let place = Place::new();
    let path = |name: &str| text(&place.dir.path().join(name));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("cert.key"), made.signing_key.serialize_pem()).unwrap();
    let other = Signer::from_seed("other.example.org/x", &Zeroizing::new([3; 32])).unwrap();
    std::fs::write(path("logs"), format!("{}\n", other.verifier())).unwrap();
    let server = Server::start(place.command(&[
        "--logs",
        &path("logs"),
        "--tls-cert",
        &path("cert.pem"),
        "--tls-key",
        &path("cert.key"),
    ]));
    let address = server.url.strip_prefix("https://").expect("it speaks TLS").to_owned();
    let port = address.rsplit(':').next().unwrap();
    let (resolve, ca) = (format!("localhost:{port}:127.0.0.1"), path("cert.pem"));
    let url = format!("https://localhost:{port}/add-checkpoint");
    let submit = || {
        std::fs::write(path("body"), History(1).request(0, 3).to_string()).unwrap();
        let body = format!("@{}", path("body"));
        let line = [
            "-sS",
            "--cacert",
            &ca,
            "--resolve",
            &resolve,
            "-w",
            "%{http_code}",
            "--data-binary",
            &body,
            &url,
        ];
        stdout(&Command::new("curl").args(line).output().unwrap())
    };
    assert!(submit().ends_with("404"));
    std::fs::write(path("logs"), format!("{}\n{}\n", other.verifier(), log(1).verifier())).unwrap();
    server.signal(Signal::HUP);
    // The signal is obeyed soon, not at once.
    let cosigned = (0..200).any(|_| submit().ends_with("200"));
    assert!(cosigned, "{}", submit());
    // A list that is refused keeps no certificate from being exchanged.
    std::fs::write(path("logs"), "nonsense\n").unwrap();
    let next = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), next.cert.pem()).unwrap();
    std::fs::write(path("cert.key"), next.signing_key.serialize_pem()).unwrap();
    assert!(submit().ends_with("000"));
    server.signal(Signal::HUP);
    assert!((0..200).any(|_| !submit().ends_with("000")), "the certificate is not exchanged");
    server.ends();
}

/// Submits one size after the other until the connection breaks; gives the last that was cosigned.
fn submit_until_killed(url: &str, from: u64, told: &std::sync::mpsc::Sender<u64>) {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    for size in from + 1.. {
        let body = History(1).request(size - 1, size).to_string();
        let head =
            format!("POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
        let (mut status, mut length) = (String::new(), 0);
        if reader.read_line(&mut status).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        assert!(status.contains(" 200 "), "size {size}: {status}");
        if reader.read_exact(&mut vec![0; length]).is_err() || told.send(size).is_err() {
            return;
        }
    }
}

#[test]
fn a_killed_witness_remembers_all_that_it_signed() {
    if !common::tool("curl") {
        return;
    }
    let place = Place::new();
    let mut known = 0;
    for round in 0..6 {
        let server = place.serve();
        let (tell, told) = std::sync::mpsc::channel();
        let url = server.url.clone();
        let submitting = std::thread::spawn(move || submit_until_killed(&url, known, &tell));
        // Killed between any two steps of its work: the next submission is under way.
        let wanted = 5 + 7 * round;
        let last = told.iter().take(wanted).last().unwrap();
        server.signal(Signal::KILL);
        drop(server);
        submitting.join().unwrap();
        let last = told.iter().last().unwrap_or(last).max(last);
        let server = place.serve();
        let (status, _, size) = place.submit(&server, &History(1).request(0, last + 2));
        assert_eq!(status, 409);
        let remembered: u64 = size.trim().parse().unwrap();
        assert!((last..=last + 1).contains(&remembered), "it signed {last} and remembers {remembered}");
        // Another history of the same log is refused whatever it is told to continue.
        for old in [remembered, last, 0] {
            assert_ne!(place.submit(&server, &History(2).request(old, last + 9)).0, 200);
        }
        server.ends();
        known = remembered;
    }
}
