//! What policies see of a token that is shown to the native API: a few claims, each by a name of ours.

use holdfast_core::context::Context;
use holdfast_core::{Error, ErrorKind, Stage};
use holdfast_identity::issued::Claims;
use serde_json::Value;

/// Claims that are text, by their own names.
const TEXTS: [&str; 5] = ["email", "repository", "ref", "environment", "job_workflow_ref"];

/// What stands in `kubernetes.io`, and what it is called.
const KUBERNETES: [(&str, &str); 4] = [
    ("/namespace", "kubernetes.namespace"),
    ("/serviceaccount/name", "kubernetes.serviceaccount"),
    ("/pod/name", "kubernetes.pod"),
    ("/node/name", "kubernetes.node"),
];

/// The beginning of what each group of the caller's is called.
const GROUP: &str = "group:";

/// The claims; `None` when there are more than policies can be shown: some of them alone could be what a policy permits, and the rest what it
/// forbids.
pub(crate) fn said(claims: &Claims) -> Option<Context> {
    let mut pairs: Vec<(Box<str>, Box<str>)> = vec![("issuer".into(), claims.issuer().into())];
    let mut put = |name: &str, value: &str| pairs.push((name.into(), value.into()));
    if let Some(subject) = claims.subject() {
        put("subject", subject);
    }
    // Anybody can give an address that nobody has verified.
    let is_unverified = claims.get("email_verified").is_some_and(|verified| *verified == Value::Bool(false));
    for name in TEXTS {
        match claims.text(name) {
            Some(_) if name == "email" && is_unverified => {}
            Some(value) => put(name, value),
            None => {}
        }
    }
    let kubernetes = claims.get("kubernetes.io");
    for (pointer, name) in KUBERNETES {
        if let Some(value) = kubernetes.and_then(|it| it.pointer(pointer)).and_then(Value::as_str) {
            put(name, value);
        }
    }
    let groups = claims.get("groups").and_then(Value::as_array);
    let mut groups: Vec<&str> = groups.into_iter().flatten().filter_map(Value::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        put(&format!("{GROUP}{group}"), "");
    }
    Context::new(pairs).ok()
}

/// What is told to whoever shows a token with more.
pub(crate) fn too_much() -> Error {
    Error::new(ErrorKind::TooLarge, Stage::Identify, "the token has more claims than policies can be shown")
        .remedy("have its issuer put fewer `groups` in")
}
