//! A server that is no gateway, or one through a proxy that changes its answers.

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

/// What it is asked: the first line without the version, the whole head, and the body.
pub struct Asked {
    pub line: String,
    pub head: String,
    pub body: String,
}

pub struct Impostor {
    pub url: String,
    /// Its certificate, PEM: whom to trust.
    pub certificate: String,
}

impl Impostor {
    /// Answers each request with what this says: a status with its reason, headers, a body.
    pub fn start(
        answer: impl Fn(&Asked) -> (String, Vec<(String, String)>, String) + Send + Sync + 'static,
    ) -> Self {
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = BufReader::new(rustls::StreamOwned::new(session, stream.unwrap()));
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    // Who only looks at the connection says nothing.
                    while let Some(asked) = read(&mut stream) {
                        let (status, headers, body) = answer(&asked);
                        let headers: String =
                            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                        let length = body.len();
                        let text =
                            format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
                        if stream.get_mut().write_all(text.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { url, certificate: issued.cert.pem() }
    }
}

/// A request, whole.
fn read(stream: &mut BufReader<impl std::io::Read>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, head, body: String::from_utf8(body).unwrap() })
}
