//! The policies that Holdfast itself brings.

/// A new tenant's policy: custodians administer and read, auditors read, nobody uses a key until a custodian says so.
pub const DEFAULT_TENANT_POLICY: &str = include_str!("builtin/tenant.cedar");

/// A dev directory's policy: the developer may do everything, the rest is as in any tenant.
pub const DEV_POLICY: &str = include_str!("builtin/dev.cedar");

/// The gateway's own policy: operators create tenants and read the gateway's status; its auditors read too.
pub const GATEWAY_POLICY: &str = include_str!("builtin/gateway.cedar");
