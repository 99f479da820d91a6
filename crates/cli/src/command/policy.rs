//! `holdfast policy`.

use super::{Bound, word};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{Input, borrowed};
use crate::output::{self, note};
use clap::{Args, Subcommand};
use holdfast_core::action::Action;
use holdfast_gateway::policy::{self, CaseResult, Cases, CedarPolicy};
use holdfast_sdk::message::Finding;
use holdfast_sdk::{CallerName, KeyName};

/// Policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    Check(Check),
    Test(Test),
    Set(Set),
    Show(Show),
    Restore(Restore),
    Explain(Explain),
}

/// Ask what a policy would be refused or warned for
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The policies, in Cedar; `-` for stdin
    file: Input,
}

/// Run test cases against a policy, without a gateway
///
/// A case says who does what with which key, and whether that shall be allowed; see docs/policy.md. Fails when a case goes otherwise.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The policies, in Cedar; `-` for stdin
    file: Input,
    /// The cases, in TOML [default: the policies' name with `.toml`]
    #[arg(long, value_name = "FILE")]
    cases: Option<Input>,
}

/// Put a policy in force, checked before it is taken
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The policies, in Cedar; `-` for stdin
    file: Input,
    /// Only if this version is in force
    #[arg(long, value_name = "VERSION")]
    expected: Option<u64>,
}

/// Write the policy in force, or an earlier version, to stdout
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Which version [default: the one in force]
    #[arg(long = "policy-version", value_name = "VERSION")]
    version: Option<u64>,
}

/// Put an earlier version in force again, as a new version
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Which version
    version: u64,
    /// Only if this version is in force
    #[arg(long, value_name = "VERSION")]
    expected: Option<u64>,
}

/// Ask how the policy in force decides
///
/// Asks about a decision that nobody asks for real: allowed or not, by which policies, and why.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Who
    caller: CallerName,
    /// Does what, such as decrypt or rotate-key
    #[arg(value_parser = word::<Action>, hide_possible_values = true)]
    action: Action,
    /// With which key
    key: Option<KeyName>,
    #[command(flatten)]
    bound: Bound,
}

impl PolicyCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Check(check) => check.run(app),
            Self::Test(test) => test.run(app),
            Self::Set(set) => set.run(app),
            Self::Show(Show { version }) => {
                let tenant = app.tenant()?;
                let policy = app.block_on(tenant.policy(version))?.body;
                if app.printer.is_json() {
                    return app.printer.record(&policy);
                }
                note(&format!(
                    "version {}, set by `{}` at {}",
                    policy.version, policy.author.0, policy.set.0
                ));
                output::show_stdout(policy.text.0.as_bytes())
            }
            Self::Restore(Restore { version, expected }) => {
                let tenant = app.tenant()?;
                let done = app.block_on(tenant.restore_policy(version, expected))?;
                warn(&done.findings);
                app.printer.record(&done.body)
            }
            Self::Explain(explain) => explain.run(app),
        }
    }
}

impl Check {
    fn run(self, app: &App) -> Result<(), Failure> {
        let text = self.file.read_text()?;
        let tenant = app.tenant()?;
        let findings = app.block_on(tenant.check_policy(&text))?.body.findings;
        app.printer.list(&findings, &["refuses", "policy", "detail", "remedy"])?;
        match findings.iter().any(|finding| finding.refuses) {
            false => Ok(()),
            true => Err(Failure::new(Exit::Usage, "this policy would be refused")
                .remedy("mend what is listed as refusing")),
        }
    }
}

impl Test {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, cases } = self;
        let cases = match (cases, &file) {
            (Some(cases), _) => cases,
            (None, Input::File(path)) => Input::File(path.with_extension("toml")),
            (None, Input::Stdin) => {
                return Err(Failure::usage("the cases are not named").remedy("name them with `--cases FILE`"));
            }
        };
        // A policy that names its tenant is tested as that tenant's; to any other, all tenants are alike.
        let tenant = app.tenant_name()?.map_or_else(|| "tenant".parse(), Ok)?;
        let prepared = CedarPolicy::new()?.read(&tenant, &file.read_text()?).map_err(refused)?;
        let cases = Cases::parse(&prepared, &cases.read_text()?)?;
        let results = policy::run_cases(&prepared, &cases);
        let failed = results.iter().filter(|result| result.failure.is_some()).count();
        if app.printer.is_json() {
            let all = results
                .iter()
                .map(|CaseResult { name, failure }| serde_json::json!({ "name": name, "failure": failure }));
            app.printer.json_value(&serde_json::Value::Array(all.collect()))?;
        } else {
            for CaseResult { name, failure } in &results {
                app.printer.entry(&match failure {
                    None => format!("✓ {name}"),
                    Some(failure) => output::printable(&format!("✗ {name}: {failure}")),
                })?;
            }
        }
        if failed == 0 {
            note(&format!("{} cases go as expected", results.len()));
            return Ok(());
        }
        Err(Failure::new(Exit::Failure, format!("{failed} of {} cases go otherwise", results.len()))
            .remedy("mend the policy, or the case if the policy is right"))
    }
}

/// Everything that is wrong with a policy text, the first as the error.
fn refused(faults: Vec<policy::Fault>) -> Failure {
    let mut faults = faults.into_iter();
    let first = match faults.next() {
        Some(fault) => Failure::usage(fault.to_string()).remedy(fault.remedy),
        None => Failure::usage("the policy text cannot be read"),
    };
    for fault in faults {
        note(&format!("also: {fault}; {}", fault.remedy));
    }
    first
}

impl Set {
    fn run(self, app: &App) -> Result<(), Failure> {
        let text = self.file.read_text()?;
        let tenant = app.tenant()?;
        let done = app.block_on(tenant.set_policy(&text, self.expected))?;
        warn(&done.findings);
        app.printer.record(&done.body)
    }
}

fn warn(findings: &[Finding]) {
    for finding in findings {
        note(&format!("warning: {}; {}", finding.detail, finding.remedy));
    }
}

impl Explain {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { caller, action, key, bound } = self;
        let tenant = app.tenant()?;
        let pairs = borrowed(&bound.context);
        let explained = app.block_on(tenant.explain_policy(&caller, action, key.as_ref(), &pairs))?;
        app.printer.record(&explained.body)
    }
}
