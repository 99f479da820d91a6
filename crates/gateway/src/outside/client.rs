//! HTTP towards witnesses: one small request at a time, bounded in time and size.

use crate::config::WitnessSettings;
use crate::fault::Fault;
use crate::https::{self, Https};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use std::time::Duration;

/// Most bytes of an answer: a few cosignatures of the largest kind.
const MAX_ANSWER: usize = 64 << 10;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(60);

/// A way to one witness.
pub(super) struct Client {
    http: Https,
    submit: Uri,
}

impl Client {
    pub(super) fn new(settings: &WitnessSettings) -> Result<Self, Fault> {
        let refused = || {
            Fault::new(format!("`{}` is no witness's address", settings.url)).remedy(
                "give `url` as `https://HOST:PORT`, or with a path: `/add-checkpoint` is put behind it",
            )
        };
        let base = settings.url.trim_end_matches('/');
        let submit: Uri = format!("{base}/add-checkpoint").parse().map_err(|_| refused())?;
        let is_tls = match submit.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(refused()),
        };
        if submit.query().is_some()
            || submit.authority().is_none_or(|authority| authority.as_str().contains('@'))
        {
            return Err(refused());
        }
        let http = match is_tls {
            true => https::client(&settings.ca_file, "the witness's", IDLE)?,
            false => https::in_clear(IDLE)?,
        };
        Ok(Self { http, submit })
    }

    /// Sends a body; gives status and body of the answer, or why there is none.
    pub(super) async fn submit(
        &self,
        body: String,
        patience: Duration,
    ) -> Result<(StatusCode, String), String> {
        let exchange = async {
            let mut request = Request::new(Full::new(Bytes::from(body)));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = self.submit.clone();
            let response = self.http.request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| chain(&*error))?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
        }
    }
}

/// What went wrong, with what stands behind it.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}
