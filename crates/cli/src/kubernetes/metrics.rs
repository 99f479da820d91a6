//! What the plugin measures of itself, as Prometheus scrapes it; on a loopback address, and only where one is named.
//!
//! Labels have closed sets of values: methods, codes and standings, never a key's, a cluster's or an object's name.

use super::clock::since_boot;
use super::plugin::Plugin;
use super::standing::{Good, Standing};
use holdfast_wire::kubernetes::grpc::Code;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

/// Connections at once: a scraper and a few people.
const CONNECTIONS: usize = 16;
/// What calls are, as they are counted; the last one is whatever was none.
const METHODS: [&str; 4] = ["Status", "Encrypt", "Decrypt", "other"];
/// How calls end.
const CODES: [Code; 9] = [
    Code::Ok,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
];
/// Upper bounds of the latency buckets, in milliseconds.
const BOUNDS: [u64; 9] = [1, 5, 10, 25, 50, 100, 250, 1_000, 3_000];
/// What the plugin's standing is called.
const STANDINGS: [&str; 4] = ["unknown", "good", "lost", "stopped"];

/// Counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    calls: [[AtomicU64; CODES.len()]; METHODS.len()],
    took: [Took; METHODS.len()],
    leased: AtomicU64,
}

#[derive(Debug, Default)]
struct Took {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Metrics {
    /// Counts a call that has ended.
    pub(crate) fn count(&self, method: &str, code: Code, took: Duration) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let code = CODES.iter().position(|known| *known == code);
        if let Some(count) = self.calls.get(method).zip(code).and_then(|(codes, code)| codes.get(code)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let Some(of) = self.took.get(method) else { return };
        let bucket = BOUNDS.partition_point(|bound| u128::from(*bound) * 1000 < took.as_micros());
        if let Some(count) = of.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        of.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts a seed that was given from a lease.
    pub(crate) fn count_lease(&self) {
        self.leased.fetch_add(1, Ordering::Relaxed);
    }
}

/// All of it, in OpenMetrics' text.
fn text(plugin: &Plugin) -> String {
    let Metrics { calls, took, leased } = &plugin.metrics;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut out = String::with_capacity(4096);
    let mut put = |line: std::fmt::Arguments<'_>| {
        // A `String` takes everything.
        let _ = out.write_fmt(line);
        out.push('\n');
    };
    put(format_args!("# TYPE holdfast_kms_calls counter"));
    for (method, codes) in METHODS.iter().zip(calls) {
        for (code, count) in CODES.iter().zip(codes) {
            let (code, count) = (code.name(), read(count));
            put(format_args!("holdfast_kms_calls_total{{method=\"{method}\",code=\"{code}\"}} {count}"));
        }
    }
    put(format_args!("# TYPE holdfast_kms_call_duration_seconds histogram"));
    for (method, Took { buckets, micros }) in METHODS.iter().zip(took) {
        let mut so_far = 0;
        let bounds =
            BOUNDS.iter().map(|bound| (*bound as f64 / 1000.0).to_string()).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(buckets) {
            so_far += read(count);
            put(format_args!(
                "holdfast_kms_call_duration_seconds_bucket{{method=\"{method}\",le=\"{bound}\"}} {so_far}"
            ));
        }
        let seconds = Duration::from_micros(read(micros)).as_secs_f64();
        put(format_args!("holdfast_kms_call_duration_seconds_sum{{method=\"{method}\"}} {seconds}"));
        put(format_args!("holdfast_kms_call_duration_seconds_count{{method=\"{method}\"}} {so_far}"));
    }
    put(format_args!("# TYPE holdfast_kms_leased_answers counter"));
    put(format_args!("holdfast_kms_leased_answers_total {}", read(leased)));
    put(format_args!("# TYPE holdfast_kms_leases gauge"));
    put(format_args!("holdfast_kms_leases {}", plugin.leases.count()));
    let (standing, answered) = {
        let standing = plugin.standing.borrow();
        let answered = match &*standing {
            Standing::Good(Good { answered, .. }) => Some(*answered),
            Standing::Unknown(_) | Standing::Stopped(_) => None,
        };
        (standing.name(), answered)
    };
    put(format_args!("# TYPE holdfast_kms_standing gauge"));
    for name in STANDINGS {
        put(format_args!("holdfast_kms_standing{{standing=\"{name}\"}} {}", u8::from(name == standing)));
    }
    let silent = answered.map_or(f64::NAN, |answered| since_boot().saturating_sub(answered).as_secs_f64());
    put(format_args!("# TYPE holdfast_kms_gateway_silent_seconds gauge"));
    put(format_args!("# UNIT holdfast_kms_gateway_silent_seconds seconds"));
    put(format_args!("holdfast_kms_gateway_silent_seconds {silent}"));
    put(format_args!("# EOF"));
    out
}

/// An address that is only reached from this machine.
///
/// # Errors
/// For any other, and for what is none.
pub(crate) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address =
        text.parse::<SocketAddr>().map_err(|_| "expected an address such as `127.0.0.1:9444`".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("expected a loopback address: it speaks in clear, to anybody".to_owned()),
    }
}

/// Answers scrapers until it is told to stop.
pub(crate) async fn serve(listener: TcpListener, plugin: Arc<Plugin>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _stopped = stop.wait_for(|stop| *stop) => return,
        };
        let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (plugin, mut stop) = (Arc::clone(&plugin), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let response = answer(&plugin, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
            tokio::select! {
                _ended = builder.serve_connection(TokioIo::new(stream), service) => {}
                _stopped = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

fn answer(plugin: &Plugin, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, OPENMETRICS, text(plugin)),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", "there is /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_scrapes() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:9444").is_ok());
        for bad in ["0.0.0.0:9444", "192.0.2.1:9444", "[::]:9444", "localhost:9444", "9444"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }

    /// By the text of this file: what it writes is what the page lists.
    #[test]
    fn the_page_has_every_metric_and_no_other() {
        let page = include_str!("../../../../docs/protocols/kubernetes-kms.md");
        let (_, table) = page.split_once("| metric | type | what it says |\n|---|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let mut listed: Vec<_> = rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect();
        let source = include_str!("metrics.rs").split("#[cfg(test)]").next().unwrap();
        let mut written: Vec<_> = source
            .split("# TYPE ")
            .skip(1)
            .map(|rest| {
                let mut words = rest.split([' ', '"']);
                let (name, kind) = (words.next().unwrap(), words.next().unwrap());
                if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
            })
            .collect();
        listed.sort();
        written.sort();
        assert_eq!(listed, written);
    }
}
