//! Tenants, callers, trust anchors, policies, the log; and what anybody may ask.

use super::{LIMIT_DOCUMENT, LIMIT_SHARE, LIMIT_SMALL};
use crate::native::message::{
    AskToSeal, Backup, Caller, Callers, Change, CheckPolicy, CreateTenant, Empty, ExplainPolicy, Explanation,
    Findings, GiveShare, Health, IssueSigningToken, IssueToken, OrderSeal, Policy, PolicyDone, Pool,
    PutAnchor, PutCaller, RestorePolicy, Seal, SealChallenge, SealDone, SetPolicy, SetRetention,
    SigningTokenIssued, Status, Tenant, TenantDone, TokenIssued, VerifyBackup,
};
use crate::native::route::{Endpoint, OpenEndpoint, Route};
use holdfast_core::port::Membership;

pub(super) const ROUTES: &[Route] = &[
    Route::post("create-tenant", "/v1/tenants", Endpoint::CreateTenant, "Create a tenant with those who will own it; an operator's action")
        .takes::<CreateTenant>(
            LIMIT_DOCUMENT,
            r#"{"tenant":"acme","callers":[{"name":"alice","kind":"custodian","credentials":["uri:spiffe://acme.example/alice"]}],"anchors":[{"name":"corporate-ca","certificate":"MIIBAA=="}]}"#,
        )
        .gives::<TenantDone>()
        .created(),
    Route::post("back-up", "/v1/backups", Endpoint::BackUp, "Write an encrypted backup of the gateway; an operator's action")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Backup>()
        .created(),
    Route::post("verify-backup", "/v1/backups/verified", Endpoint::VerifyBackup, "Record that a backup was opened and read to its end; an operator's action")
        .takes::<VerifyBackup>(
            LIMIT_SMALL,
            r#"{"sha256":"q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8c=","bytes":50534,"commit":12,"proof":"q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8f7q8c="}"#,
        )
        .gives::<TenantDone>(),
    Route::post("confirm-clock", "/v1/clock/confirm", Endpoint::ConfirmClock, "Confirm that the clock is right after a jump; an operator's action")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<TenantDone>(),
    Route::get("read-tenant", "/v1/tenants/{tenant}", Endpoint::ReadTenant, "Read a tenant's record").gives::<Tenant>(),
    Route::post("suspend-tenant", "/v1/tenants/{tenant}/suspend", Endpoint::SuspendTenant, "Stop everything of a tenant")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<TenantDone>(),
    Route::post("resume-tenant", "/v1/tenants/{tenant}/resume", Endpoint::ResumeTenant, "Let a tenant's keys be used again")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<TenantDone>(),
    Route::put("set-retention", "/v1/tenants/{tenant}/retention", Endpoint::SetRetention, "Say for how long the log keeps its entries")
        .takes::<SetRetention>(LIMIT_SMALL, r#"{"days":400}"#)
        .gives::<TenantDone>(),
    Route::get("list-callers", "/v1/tenants/{tenant}/callers", Endpoint::ListCallers, "List callers and trust anchors").gives::<Callers>(),
    Route::put("put-caller", "/v1/tenants/{tenant}/callers/{caller}", Endpoint::PutCaller, "Register a caller, or change a registration")
        .takes::<PutCaller>(
            LIMIT_SMALL,
            r#"{"kind":"application","groups":["payments"],"credentials":["uri:spiffe://acme.example/payments"]}"#,
        )
        .gives::<Caller>(),
    Route::delete("remove-caller", "/v1/tenants/{tenant}/callers/{caller}", Endpoint::RemoveCaller, "Remove a caller for ever")
        .gives::<TenantDone>(),
    Route::post("suspend-caller", "/v1/tenants/{tenant}/callers/{caller}/suspend", Endpoint::SuspendCaller, "Stop a caller for now")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Change>(),
    Route::post("resume-caller", "/v1/tenants/{tenant}/callers/{caller}/resume", Endpoint::ResumeCaller, "Let a caller call again")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Change>(),
    Route::post("issue-token", "/v1/tenants/{tenant}/callers/{caller}/tokens", Endpoint::IssueToken, "Issue a bearer token, shown once")
        .takes::<IssueToken>(LIMIT_SMALL, r#"{"lifetime_seconds":3600}"#)
        .gives::<TokenIssued>()
        .created(),
    Route::post("issue-signing-token", "/v1/tenants/{tenant}/callers/{caller}/signing-tokens", Endpoint::IssueSigningToken, "Issue a token that requests are signed with (Signature Version 4), shown once")
        .takes::<IssueSigningToken>(LIMIT_SMALL, r#"{"lifetime_seconds":31536000}"#)
        .gives::<SigningTokenIssued>()
        .created(),
    Route::delete("revoke-token", "/v1/tenants/{tenant}/callers/{caller}/tokens/{token}", Endpoint::RevokeToken, "Revoke a token")
        .gives::<Change>(),
    Route::get("list-anchors", "/v1/tenants/{tenant}/anchors", Endpoint::ListCallers, "List trust anchors and callers").gives::<Callers>(),
    Route::put("put-anchor", "/v1/tenants/{tenant}/anchors/{anchor}", Endpoint::PutAnchor, "Trust a certificate authority, or replace its revocation list")
        .takes::<PutAnchor>(LIMIT_DOCUMENT, r#"{"certificate":"MIIBAA==","crl":"MIIBAA=="}"#)
        .gives::<TenantDone>(),
    Route::delete("remove-anchor", "/v1/tenants/{tenant}/anchors/{anchor}", Endpoint::RemoveAnchor, "Trust a certificate authority no longer")
        .gives::<TenantDone>(),
    Route::get("read-policy", "/v1/tenants/{tenant}/policy", Endpoint::ReadPolicy, "Read the policy in force").gives::<Policy>(),
    Route::put("set-policy", "/v1/tenants/{tenant}/policy", Endpoint::SetPolicy, "Replace the policy")
        .takes::<SetPolicy>(LIMIT_DOCUMENT, r#"{"text":"permit(principal, action, resource);","expected_version":4}"#)
        .gives::<PolicyDone>(),
    Route::get("read-policy-version", "/v1/tenants/{tenant}/policy/versions/{version}", Endpoint::ReadPolicyVersion, "Read an earlier policy")
        .gives::<Policy>(),
    Route::post("restore-policy", "/v1/tenants/{tenant}/policy/restore", Endpoint::RestorePolicy, "Put an earlier policy in force again")
        .takes::<RestorePolicy>(LIMIT_SMALL, r#"{"version":3,"expected_version":4}"#)
        .gives::<PolicyDone>(),
    Route::post("check-policy", "/v1/tenants/{tenant}/policy/check", Endpoint::CheckPolicy, "Ask what a policy would be refused or warned for")
        .takes::<CheckPolicy>(LIMIT_DOCUMENT, r#"{"text":"permit(principal, action, resource);"}"#)
        .gives::<Findings>(),
    Route::post("explain-policy", "/v1/tenants/{tenant}/policy/explain", Endpoint::ExplainPolicy, "Ask how the policy in force decides")
        .takes::<ExplainPolicy>(LIMIT_SMALL, r#"{"caller":"payments","action":"decrypt","key":"payroll","context":{"invoice":"4711"}}"#)
        .gives::<Explanation>(),
    Route::get("read-audit", "/v1/tenants/{tenant}/audit/{+file}", Endpoint::ReadAudit, "Read a file of the audit log (C2SP tlog-tiles): `checkpoint`, `checkpoint.cosigned`, `log.vkey`, `tile/…`"),
    Route::get("read-status", "/v1/status", Endpoint::ReadStatus, "Read the gateway's status; an operator's action").gives::<Status>(),
    Route::get("read-pool", "/v1/pool", Endpoint::ReadPool, "Look at the members of the key store's pool; an operator's action").gives::<Pool>(),
    Route::post("drain-member", "/v1/pool/members/{member}/drain", Endpoint::MoveMember(Membership::Drained), "Take a member out of the pool; an operator's action")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<TenantDone>(),
    Route::post("join-member", "/v1/pool/members/{member}/join", Endpoint::MoveMember(Membership::Joined), "Let a member of the pool work again; an operator's action")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<TenantDone>(),
    Route::get("read-seal", "/v1/seal", Endpoint::Open(OpenEndpoint::Seal), "Whether the gateway waits for its root key, and the recipient of shares").gives::<Seal>().open(),
    Route::post("give-share", "/v1/seal/shares", Endpoint::GiveShare, "Give a share of the root key, encrypted to that recipient")
        .takes::<GiveShare>(LIMIT_SHARE, r#"{"share":"YWdl"}"#)
        .gives::<Seal>()
        .open(),
    Route::post("ask-to-seal", "/v1/seal/challenge", Endpoint::AskToSeal, "Ask, as a custodian of the root key, for a challenge whose answer seals the gateway")
        .takes::<AskToSeal>(LIMIT_SMALL, r#"{"generation":1,"share":2}"#)
        .gives::<SealChallenge>()
        .open(),
    Route::post("order-seal", "/v1/seal", Endpoint::OrderSeal, "Seal the gateway: the order of one custodian of the root key, with the answer to their challenge")
        .takes::<OrderSeal>(LIMIT_SMALL, r#"{"generation":1,"share":2,"answer":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#)
        .gives::<SealDone>()
        .open(),
    Route::get("openapi", "/openapi.json", Endpoint::Open(OpenEndpoint::OpenApi), "Read this document").gives::<serde_json::Value>().open(),
    Route::get("live", "/health/live", Endpoint::Open(OpenEndpoint::Live), "Whether the process lives").gives::<Health>().open(),
    Route::get("ready", "/health/ready", Endpoint::Open(OpenEndpoint::Ready), "Whether it can work: key store, state and log").gives::<Health>().open(),
];
