//! What the operator's own listener says of a sealed gateway.

use super::waiting::{Seen, Waiting};
use crate::admin::Answers;
use crate::reload;
use holdfast_wire::native::message::{Part, Status};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::Ordering;

impl Answers for Waiting {
    fn metrics_text(&self) -> String {
        let Seen { progress, is_opening: _, refused, is_ordered: _ } = self.seen();
        let mut registry = Registry::with_prefix("holdfast");
        let gauge = |value: i64| {
            let gauge = Gauge::<i64>::default();
            gauge.set(value);
            gauge
        };
        let failures = Counter::<u64>::default();
        failures.inner().store(refused, Ordering::Relaxed);
        let given = i64::try_from(progress.given.len()).unwrap_or(i64::MAX);
        registry.register("sealed", "1 while the root key is not there", gauge(1));
        registry.register("ready", "1 when key store, state and log can work", gauge(0));
        registry.register(
            "reload_refused",
            "1 while what the last reload found is refused",
            gauge(i64::from(self.tls.refused().is_some())),
        );
        registry.register("unseal_shares", "Shares of the root key that are in", gauge(given));
        registry.register("unseal_threshold", "How many are needed", gauge(progress.threshold.into()));
        registry.register("unseal_failures", "Shares that were refused since the start", failures);
        if let Some(expiry) = self.tls.expires() {
            registry.register(
                "server_certificate_expiry_timestamp_seconds",
                "When the server's certificate expires",
                gauge(i64::try_from(expiry).unwrap_or(i64::MAX)),
            );
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn status(&self) -> Status {
        let Seen { progress, is_opening, refused, is_ordered } = self.seen();
        let of = if progress.given.is_empty() { String::new() } else { format!(", of {}", progress.names()) };
        let detail = format!(
            "sealed: {} of {} shares of generation {} are in{of}",
            progress.given.len(),
            progress.threshold,
            progress.generation
        );
        let mut notices = vec![match is_opening {
            true => "enough shares are in: the gateway is being opened".to_owned(),
            false => format!(
                "custodians run `holdfast unseal --fingerprint {}`; compare it with what they are shown",
                self.fingerprint()
            ),
        }];
        if is_ordered {
            notices.push("sealed by order of a custodian: no device opens it".to_owned());
        }
        notices.extend(
            self.not_opened.iter().map(|why| format!("{why}; custodians' shares open it all the same")),
        );
        notices.extend(self.tls.refused().iter().map(|refused| reload::notice(refused)));
        if refused > 0 {
            notices.push(format!("{refused} shares were refused; the log of this process says which"));
        }
        let part = Part { name: "root-key".to_owned(), ready: false, detail: Some(detail) };
        Status { version: crate::BUILD.to_owned(), ready: false, parts: vec![part], notices }
    }
}
