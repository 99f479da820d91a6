//! What was found of things that were looked at one after the other, each wrong one with what to do.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::printable;
use serde_json::{Value, json};

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    Watch,
    Wrong(Exit),
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Watch => "watch",
            Self::Wrong(_) => "wrong",
        }
    }
}

/// One thing that was looked at.
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) verdict: Verdict,
    pub(crate) detail: String,
    /// The file, where it is one that is wrong.
    pub(crate) place: Option<String>,
    pub(crate) remedy: Option<String>,
}

/// All of them, in their order.
#[derive(Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    pub(crate) fn fine(&mut self, what: &str, detail: impl Into<String>) {
        self.put(what, Verdict::Fine, detail.into(), None);
    }

    pub(crate) fn watch(&mut self, what: &str, detail: impl Into<String>, remedy: &str) {
        self.put(what, Verdict::Watch, detail.into(), Some(remedy.to_owned()));
    }

    pub(crate) fn wrong(&mut self, what: &str, failure: &Failure) {
        let remedy = failure.remedy_text().map(str::to_owned);
        self.put(what, Verdict::Wrong(failure.exit()), failure.problem().to_owned(), remedy);
    }

    fn put(&mut self, what: &str, verdict: Verdict, detail: String, remedy: Option<String>) {
        self.0.push(Finding { what: what.to_owned(), verdict, detail, place: None, remedy });
    }

    /// All of them, for programs.
    pub(crate) fn json(&self) -> Value {
        let all = self.0.iter().map(|finding| {
            let Finding { what, verdict, detail, place, remedy } = finding;
            let mut finding =
                json!({ "what": what, "verdict": verdict.word(), "detail": detail, "remedy": remedy });
            if let (Some(place), Some(finding)) = (place, finding.as_object_mut()) {
                finding.insert("place".to_owned(), place.as_str().into());
            }
            finding
        });
        Value::Array(all.collect())
    }

    /// All of them, for people: a line each, and one for what to do.
    pub(crate) fn lines(&self, app: &App) -> Result<(), Failure> {
        for Finding { what, verdict, detail, place: _, remedy } in &self.0 {
            let mark = match verdict {
                Verdict::Fine => "✓",
                Verdict::Watch => "!",
                Verdict::Wrong(_) => "✗",
            };
            app.printer.entry(&printable(&format!("{mark} {what:<20} {detail}")))?;
            if let Some(remedy) = remedy {
                app.printer.entry(&printable(&format!("  {:<20} → {remedy}", "")))?;
            }
        }
        Ok(())
    }

    /// Fails as the first of them that is wrong.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let wrong = self.0.iter().find_map(|finding| match finding.verdict {
            Verdict::Wrong(exit) => Some((exit, &finding.what)),
            Verdict::Fine | Verdict::Watch => None,
        });
        match wrong {
            None => Ok(()),
            Some((exit, what)) => {
                Err(Failure::new(exit, format!("something is wrong, first of all: {what}"))
                    .remedy("do what is said beside it, and look again"))
            }
        }
    }

    /// Tells them, and fails as the first that is wrong.
    pub(crate) fn told(&self, app: &App) -> Result<(), Failure> {
        match app.printer.is_json() {
            true => app.printer.json_value(&self.json())?,
            false => self.lines(app)?,
        }
        self.verdict()
    }
}
