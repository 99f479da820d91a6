//! A syslog receiver with moods: TLS with client certificates, octet counting.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;

/// Certificates of a receiver and of a gateway.
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().unwrap() };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "siem authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        std::fs::write(authority.path("ca.pem"), root).unwrap();
        for (name, host) in [("siem", "siem.example"), ("gateway", "gateway.example")] {
            let key = KeyPair::generate().unwrap();
            let leaf =
                CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            std::fs::write(authority.path(&format!("{name}.pem")), leaf.pem()).unwrap();
            std::fs::write(authority.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        authority
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self) -> Arc<ServerConfig> {
        let read = |name: &str| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_file_iter(self.path(name)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let mut roots = RootCertStore::empty();
        read("ca.pem").into_iter().for_each(|root| roots.add(root).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(read("siem.pem"), PrivateKeyDer::from_pem_file(self.path("siem.key")).unwrap());
        Arc::new(config.unwrap())
    }
}

/// What a receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Reads and keeps everything, and ends when the peer does.
    Reading,
    /// Shakes hands, and breaks each connection once something has come, which it neither reads nor keeps.
    Resetting,
    /// Shakes hands and reads nothing more.
    Deaf,
    /// Shakes hands, says that it ends, and reads nothing.
    Leaving,
    /// Reads and keeps everything, and never ends.
    Endless,
}

struct Shared {
    mood: Mutex<Mood>,
    changed: Condvar,
    messages: Mutex<Vec<String>>,
    connections: Mutex<u64>,
    config: Arc<ServerConfig>,
}

/// A receiver on a port of the system's choice.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
}

impl Receiver {
    pub fn start(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Reading),
            changed: Condvar::new(),
            messages: Mutex::default(),
            connections: Mutex::default(),
            config: authority.server(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let shared = Arc::clone(&accepting);
                // What goes wrong with one connection is the peer's to notice.
                std::thread::spawn(move || shared.serve(tcp.unwrap()));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
        self.shared.changed.notify_all();
    }

    /// Everything it keeps, in the order of arrival.
    pub fn messages(&self) -> Vec<String> {
        self.shared.messages.lock().unwrap().clone()
    }

    #[allow(dead_code, reason = "what is shared by several tests is not used by each")]
    pub fn connections(&self) -> u64 {
        *self.shared.connections.lock().unwrap()
    }
}

impl Shared {
    fn serve(&self, mut tcp: TcpStream) -> Option<()> {
        *self.connections.lock().unwrap() += 1;
        let mood = *self.mood.lock().unwrap();
        let mut tls = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).ok()?;
        }
        if mood == Mood::Deaf {
            drop(self.changed.wait_while(self.mood.lock().unwrap(), |mood| *mood == Mood::Deaf).unwrap());
            return None;
        }
        if mood == Mood::Leaving {
            tcp.shutdown(Shutdown::Write).ok()?;
            drop(self.changed.wait_while(self.mood.lock().unwrap(), |mood| *mood == Mood::Leaving).unwrap());
            return None;
        }
        if mood == Mood::Resetting {
            // Unread bytes make the system reset the connection. The peer's own end is some.
            tcp.peek(&mut [0]).ok()?;
            return None;
        }
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        let (mut buffer, mut kept) = (Vec::new(), Vec::new());
        let mut chunk = [0; 4096];
        loop {
            // Ends without close_notify are ends too.
            let n = stream.read(&mut chunk).unwrap_or(0);
            buffer.extend_from_slice(&chunk[..n]);
            while let Some(message) = take(&mut buffer) {
                kept.push(message);
            }
            match mood {
                Mood::Resetting | Mood::Deaf | Mood::Leaving => {}
                Mood::Reading | Mood::Endless => self.messages.lock().unwrap().append(&mut kept),
            }
            if n == 0 {
                break;
            }
        }
        if mood == Mood::Endless {
            drop(self.changed.wait_while(self.mood.lock().unwrap(), |mood| *mood == Mood::Endless).unwrap());
        }
        Some(())
    }
}

/// Takes a whole message from the front: `LENGTH SP MESSAGE`.
fn take(buffer: &mut Vec<u8>) -> Option<String> {
    let space = buffer.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&buffer[..space]).unwrap().parse().unwrap();
    let end = space + 1 + length;
    (buffer.len() >= end).then_some(())?;
    let message = String::from_utf8(buffer[space + 1..end].to_vec()).unwrap();
    buffer.drain(..end);
    Some(message)
}
