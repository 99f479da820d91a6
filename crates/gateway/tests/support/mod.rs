//! A dev gateway in this process, and `curl` as anybody's client.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "what fails here is a test"
)]

pub mod api;
pub mod authority;
pub mod balancer;
pub mod cse;
pub mod dke;
pub mod ekm;
pub mod issuer;
pub mod log;
pub mod peer;
#[path = "../../../cli/tests/common/ports.rs"]
pub mod ports;
pub mod schemas;
pub mod xks;

use holdfast_gateway::config::Config;
use holdfast_gateway::serve::{Options, Running, start};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

/// A gateway with its directory.
pub struct Dev {
    pub running: Running,
    pub directory: PathBuf,
    pub environment: HashMap<String, String>,
}

/// The defaults, in `directory` and on ports of the system's choice.
pub fn settings(directory: &Path) -> Config {
    let mut config = Config { data: directory.to_path_buf(), ..Config::default() };
    config.listen.address.set_port(0);
    config.admin.address.set_port(0);
    config
}

/// Starts a dev gateway in `directory`, on ports of the system's choice.
pub async fn dev(directory: &Path) -> Dev {
    dev_with(settings(directory)).await
}

/// Starts a dev gateway with this configuration.
pub async fn dev_with(config: Config) -> Dev {
    let directory = config.data.clone();
    let running = start(Options { config, dev: true }).await.unwrap();
    let text = std::fs::read_to_string(directory.join("dev.env")).unwrap();
    let environment = text
        .lines()
        .map(|line| line.strip_prefix("export ").unwrap().split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    Dev { running, directory, environment }
}

/// What TLS connections to the gateway in `directory` trust, and nothing else.
pub fn trust(directory: &Path) -> peer::Settings {
    peer::Settings::trusting(&std::fs::read(directory.join("tls/ca.pem")).unwrap())
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {}", self.json())).to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }
}

/// Asks as a provider does whose protocol leaves an answer a few milliseconds: once more, where a busy machine took longer. What was too late stands in the
/// log of its own.
pub async fn in_time(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if !answer.is_late() || begun.elapsed() > peer::PATIENCE {
            return answer;
        }
    }
}

/// Asks whoever lets one in each second, of whom at least one has been let in, until another one is too many: on a busy machine it is not the next one.
pub async fn throttled(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    let throttled = async {
        loop {
            let answer = ask().await;
            if answer.status == 429 {
                break answer;
            }
        }
    };
    tokio::time::timeout(peer::PATIENCE, throttled).await.expect("one too many is refused")
}

/// The answer to a request whose body nobody wants, which is taken in all the same so that the answer is read. Where a busy machine sent it so slowly that the
/// gateway may have ceased to wait for it, it is sent once more.
pub async fn taken_in(mut send: impl AsyncFnMut() -> (Duration, Result<Answer, String>)) -> Answer {
    let begun = Instant::now();
    loop {
        match send().await {
            (_, Ok(answer)) => return answer,
            (took, Err(said)) => {
                let is_slow = took >= peer::UNWANTED_PAUSE && begun.elapsed() < peer::PATIENCE;
                assert!(is_slow, "it is not taken in: {said} after {took:?}");
            }
        }
    }
}

impl Answer {
    /// Whether it says that there was none in time, as AWS or Azure is told.
    fn is_late(&self) -> bool {
        let named = |name: &str| self.body.windows(name.len()).any(|window| window == name.as_bytes());
        matches!(self.status, 408 | 503) && (named("DependencyTimeoutException") || named("RequestTimeout"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The operation, as the log writes it.
    #[track_caller]
    pub fn operation(&self) -> String {
        let id = self.header("holdfast-operation");
        let id = id.unwrap_or_else(|| panic!("no operation in {}", self.headers));
        assert_eq!(id.len(), 26, "{id}");
        id.to_uppercase()
    }

    /// Checks that it is a problem of this kind which says what to do.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.headers);
        assert_eq!(answer.text("code"), code, "{}", answer.json());
        assert_eq!(answer.json()["status"], status);
        assert!(!answer.text("remedy").is_empty());
        assert_eq!(answer.text("operation"), answer.operation());
        answer
    }
}

impl Dev {
    /// A connection of the developer's.
    pub async fn developer(&self) -> peer::Peer {
        let settings = trust(&self.directory).token(&self.environment["HOLDFAST_TOKEN"]);
        peer::Peer::connect(self.running.address, &settings).await.unwrap()
    }

    /// A connection of nobody in particular.
    pub async fn stranger(&self) -> peer::Peer {
        peer::Peer::connect(self.running.address, &trust(&self.directory)).await.unwrap()
    }

    /// Asks as the developer, whose token stands in a file: secrets have no place in argv.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let header = self.directory.join("authorization");
        std::fs::write(&header, format!("authorization: Bearer {}\n", self.environment["HOLDFAST_TOKEN"]))
            .unwrap();
        let arguments = ["--header".to_owned(), format!("@{}", header.display())];
        self.curl(&arguments, method, path, body).await
    }

    /// Asks as whoever the arguments of `curl` say.
    pub async fn curl(&self, arguments: &[String], method: &str, path: &str, body: &str) -> Answer {
        let output = self.run_curl(arguments, method, path, body).await;
        assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        read_curl(&output)
    }

    /// Has `curl` send a body that nobody wants: how long it took from the first byte on, and the answer, or what `curl` says where it has none.
    pub async fn curl_unwanted(
        &self,
        arguments: &[String],
        method: &str,
        path: &str,
        body: &str,
    ) -> (Duration, Result<Answer, String>) {
        let timed = ["--write-out", "%{stderr}\n%{time_pretransfer} %{time_total}"].map(str::to_owned);
        let output = self.run_curl(&[arguments, &timed].concat(), method, path, body).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (began, ended) = said.lines().last().unwrap().split_once(' ').unwrap();
        let [began, ended] = [began, ended].map(|seconds| seconds.parse().unwrap());
        let answer = if output.status.success() { Ok(read_curl(&output)) } else { Err(said) };
        (Duration::from_secs_f64(ended) - Duration::from_secs_f64(began), answer)
    }

    async fn run_curl(&self, arguments: &[String], method: &str, path: &str, body: &str) -> Output {
        let url = format!("{}{path}", self.environment["HOLDFAST_URL"]);
        let mut curl = tokio::process::Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--include",
            "--cacert",
            &self.environment["HOLDFAST_CACERT"],
        ]);
        curl.args(["--request", method, "--header", "content-type: application/json"]).args(arguments);
        if !body.is_empty() {
            curl.args(["--data-binary", "@-"]);
        }
        let mut child = curl
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(body.as_bytes()).await.unwrap();
        child.wait_with_output().await.unwrap()
    }

    /// Stops, and starts again in the same directory.
    pub async fn restart(self) -> Self {
        let Self { running, directory, .. } = self;
        running.shut_down().await.unwrap();
        dev(&directory).await
    }
}

/// The answer that `curl` has written out.
fn read_curl(output: &Output) -> Answer {
    let mut rest = output.stdout.as_slice();
    loop {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a header");
        let head = String::from_utf8(rest[..end].to_vec()).unwrap();
        rest = &rest[end + 4..];
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 100 {
            return Answer { status, headers: head.to_lowercase(), body: rest.to_vec() };
        }
    }
}
