//! What has happened since a backup, by copies of the logs: what a restoration of it would lose.

use super::restore::Copied;
use crate::fault::Fault;
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{self, Trusted};
use holdfast_core::TenantId;
use holdfast_core::action::{Action, Group};
use holdfast_core::pipeline::OpenIntent;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How many of something are named.
const NAMED: usize = 1_000;

/// How many there are of something, and the first thousand of them.
#[derive(Debug, Clone, Serialize)]
pub struct FirstOf<T> {
    /// How many.
    pub count: u64,
    /// The first of them, in the order of the log.
    pub first: Vec<T>,
}

impl<T> Default for FirstOf<T> {
    fn default() -> Self {
        Self { count: 0, first: Vec::new() }
    }
}

impl<T> FirstOf<T> {
    /// One more.
    pub fn add(&mut self, one: T) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(one);
        }
    }
}

/// A stop order that a restoration gives again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// Whose.
    pub tenant: String,
    /// Which.
    pub action: &'static str,
    /// The key, caller, token or anchor that is stopped.
    pub about: String,
}

/// A backup that the log has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its file's name.
    pub file: String,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
}

/// What has happened since a backup.
#[derive(Debug, Default)]
pub struct Since {
    /// Tenants that were created.
    pub tenants: FirstOf<String>,
    /// Keys that were created, as `TENANT/KEY`.
    pub keys: FirstOf<String>,
    /// Versions that were made of keys that the backup has, as `TENANT/KEY/VERSION`.
    pub versions: FirstOf<String>,
    /// Commands that were carried out, by their action; but for backups.
    pub commands: BTreeMap<&'static str, u64>,
    /// Stop orders that are given again.
    pub stops: FirstOf<Stop>,
    /// Backups that were written, this one among them.
    pub backups: Vec<Written>,
    /// Entries of all these logs that were verified.
    pub entries: u64,
    created: BTreeSet<String>,
}

impl Since {
    /// What a restoration has taken from all copies together: an order may begin in one of them and be refused in the next.
    pub fn give_again(&mut self, orders: &[OpenIntent]) {
        for stop in orders.iter().filter(|order| order.action.is_stop()) {
            let OpenIntent { operation: _, tenant, action, key, subject } = stop;
            let about = key.as_ref().map(ToString::to_string).or(subject.as_deref().map(str::to_owned));
            let about = about.unwrap_or_else(|| tenant.to_string());
            self.stops.add(Stop { tenant: tenant.to_string(), action: action.name(), about });
        }
    }

    /// Reads what a verified copy holds beyond a backup of this commit.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub fn read(&mut self, copy: &Copied, commit: u64) -> Result<(), Fault> {
        let reader = LogReader::open(&copy.directory)?;
        self.entries += copy.size;
        self.events(&reader, &copy.tenant, (copy.from, copy.size), commit)
    }

    /// Reads the whole log of a tenant that the backup does not know.
    ///
    /// # Errors
    /// When it does not verify by the key beside it, or cannot be read.
    pub fn read_unknown(&mut self, tenant: &TenantId, log: &Path, commit: u64) -> Result<(), Fault> {
        let report = verify::verify(log, &Trusted::default(), |_, _| ()).map_err(|error| {
            Fault::new(format!("`{}` does not verify", log.display()))
                .remedy("look at it with `holdfast audit verify`")
                .because(error)
                .damaged()
        })?;
        self.entries += report.checkpoint.size;
        self.events(&LogReader::open(log)?, tenant, (0, report.checkpoint.size), commit)
    }

    fn events(
        &mut self,
        reader: &LogReader,
        tenant: &TenantId,
        (from, to): (u64, u64),
        commit: u64,
    ) -> Result<(), Fault> {
        for entry in reader.entries(from) {
            let (index, entry) = entry?;
            // What came since it was verified is not counted.
            if index >= to {
                break;
            }
            let event: Value = serde_json::from_slice(&entry).unwrap_or_default();
            self.event(tenant, &event, commit);
        }
        Ok(())
    }

    fn event(&mut self, tenant: &TenantId, event: &Value, commit: u64) {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let Some(action) = Action::from_name(text("/action")) else { return };
        if text("/outcome") != "success" || action.group() != Group::Administer {
            return;
        }
        if action == Action::BackUp {
            let (file, sha256) = (text("/subject").to_owned(), text("/output/sha256").to_owned());
            return self.backups.push(Written { file, sha256 });
        }
        // That a backup opens is known once more by looking.
        if action == Action::VerifyBackup {
            return;
        }
        // The backup's checkpoints are a little older than its state, which may hold what comes first.
        let is_held = event.pointer("/state/sequence").and_then(Value::as_u64).is_some_and(|at| at <= commit);
        if is_held || !Action::ALL.contains(&action) {
            return;
        }
        *self.commands.entry(action.name()).or_default() += 1;
        let key = format!("{tenant}/{}", text("/key/name"));
        if action == Action::CreateTenant {
            self.tenants.add(text("/subject").to_owned());
        } else if action == Action::CreateKey {
            self.created.insert(key.clone());
            self.keys.add(key);
        } else if action == Action::RotateKey && !self.created.contains(&key) {
            let version = event.pointer("/key/version").and_then(Value::as_u64).unwrap_or_default();
            self.versions.add(format!("{key}/{version}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_audit::port::{GatewayLog, Signing, stop_orders};
    use holdfast_core::port::{AuditLog as _, Mark, Priority};
    use holdfast_core::{Error, Secret};
    use serde_json::json;
    use std::process::Command;

    struct Seeds;

    impl Signing for Seeds {
        fn origin(&self, tenant: &TenantId) -> String {
            format!("test.example/{tenant}")
        }

        fn seed(&self, _: &TenantId) -> Result<Secret, Error> {
            Ok(Secret::new(vec![7; 32]))
        }
    }

    /// By itself each copy holds an order that nobody has refused, or that somebody has carried out.
    #[tokio::test]
    async fn an_order_that_begins_in_one_copy_and_is_refused_in_the_next_is_given_by_neither() {
        let data = tempfile::tempdir().unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let (log, _) = GatewayLog::open(holdfast_audit::Config::new(data.path()), Seeds).unwrap();
        let handle = log.open(&tenant).unwrap();
        let write = async |action: &str, outcome: &str, operation: u8| {
            let operation = holdfast_core::OperationId::from_bytes([operation; 16]);
            let event = json!({
                "operation": operation.to_string(), "action": action, "outcome": outcome, "key": { "name": "kek", "id": "id" }
            });
            let write =
                |bytes: &mut Vec<u8>, _: &mut [u8; 32]| bytes.extend_from_slice(event.to_string().as_bytes());
            log.append(&handle, Mark::Plain, Priority::Stop, write).unwrap().1.await.unwrap();
        };
        write("destroy-key", "intent", 1).await;
        write("suspend-key", "intent", 2).await;
        log.flush(&tenant).unwrap();
        let (whole, part) = (data.path().join("audit/acme"), data.path().join("copied"));
        assert!(Command::new("cp").arg("-r").args([&whole, &part]).status().unwrap().success());
        write("destroy-key", "refused", 1).await;
        write("suspend-key", "success", 2).await;
        log.flush(&tenant).unwrap();
        let copies = [(part, 0, 2), (whole, 2, 4)].map(|(directory, from, size)| Copied {
            tenant: tenant.clone(),
            directory,
            from,
            size,
        });
        let readers = copies.each_ref().map(|copy| (LogReader::open(&copy.directory).unwrap(), copy.from));
        let orders = stop_orders(readers.iter().map(|(reader, from)| (reader, *from)), &tenant).unwrap();
        let mut since = Since::default();
        since.give_again(&orders);
        copies.iter().for_each(|copy| since.read(copy, 0).unwrap());
        let again = Stop { tenant: "acme".to_owned(), action: "suspend-key", about: "kek".to_owned() };
        assert_eq!((since.stops.count, since.stops.first), (1, vec![again]));
        assert_eq!(since.commands, BTreeMap::from([("suspend-key", 1)]));
    }

    #[test]
    fn what_the_backup_holds_and_what_was_refused_is_not_lost() {
        let mut since = Since::default();
        let tenant: TenantId = "acme".parse().unwrap();
        let mut happens = |action: &str, outcome: &str, key: &str, version: u64, at: u64| {
            let event = json!({
                "action": action, "outcome": outcome, "key": { "name": key, "version": version }, "state": { "sequence": at }
            });
            since.event(&tenant, &event, 10);
        };
        happens("create-key", "success", "held", 1, 10);
        happens("create-key", "intent", "young", 1, 11);
        happens("create-key", "success", "young", 1, 11);
        happens("rotate-key", "success", "young", 2, 12);
        happens("rotate-key", "success", "held", 2, 13);
        happens("rotate-key", "refused", "held", 3, 14);
        happens("encrypt", "success", "held", 2, 14);
        assert_eq!(since.keys.first, ["acme/young"]);
        assert_eq!(since.versions.first, ["acme/held/2"]);
        assert_eq!(since.commands, BTreeMap::from([("create-key", 1), ("rotate-key", 2)]));
    }
}
