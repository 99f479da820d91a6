//! Data on stdout: tables for people, JSON for programs.

use crate::exit::Exit;
use crate::failure::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;
use std::io::{self, IsTerminal as _, Write};
use zeroize::Zeroizing;

/// Writes a command's data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One record: its fields below each other. What it says stands elsewhere too.
    pub(crate) fn record(self, record: &impl Serialize) -> Result<(), Failure> {
        show_stdout(self.text_of(record)?.as_bytes())
    }

    /// One record, which the command was run for.
    pub(crate) fn product(self, record: &impl Serialize) -> Result<(), Failure> {
        write_stdout(self.text_of(record)?.as_bytes())
    }

    fn text_of(self, record: &impl Serialize) -> Result<Zeroizing<String>, Failure> {
        let value = value(record)?;
        if self.json {
            return Ok(Zeroizing::new(format!("{value:#}\n")));
        }
        let mut table = plain();
        if let Value::Object(fields) = &value {
            for (name, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
                table.add_row([name.replace('_', " "), cell(value)]);
            }
        }
        Ok(Zeroizing::new(text(table)))
    }

    /// Many records: a column for each of these fields. JSON has all fields.
    pub(crate) fn list(self, records: &[impl Serialize], columns: &[&str]) -> Result<(), Failure> {
        let values = records.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        if self.json {
            return show_stdout(format!("{:#}\n", Value::Array(values)).as_bytes());
        }
        if values.is_empty() {
            return Ok(());
        }
        let mut table = plain();
        table.set_header(columns.iter().map(|column| column.replace('_', " ").to_uppercase()));
        for value in &values {
            table.add_row(columns.iter().map(|column| value.get(column).map(cell).unwrap_or_default()));
        }
        show_stdout(text(table).as_bytes())
    }

    /// Rows that are none of the API's records.
    pub(crate) fn rows(self, columns: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = plain();
        table.set_header(columns.iter().map(|column| column.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        show_stdout(text(table).as_bytes())
    }

    /// A JSON value that the command was run for, indented.
    pub(crate) fn json_value(self, value: &Value) -> Result<(), Failure> {
        write_stdout(format!("{value:#}\n").as_bytes())
    }

    /// A line of text that the command was run for.
    pub(crate) fn line(self, line: &str) -> Result<(), Failure> {
        write_stdout(format!("{line}\n").as_bytes())
    }

    /// A line of many, to look at.
    pub(crate) fn entry(self, line: &str) -> Result<(), Failure> {
        show_stdout(format!("{line}\n").as_bytes())
    }
}

fn value(record: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(record)
        .map_err(|error| Failure::new(Exit::Failure, "an answer cannot be shown").because(&error))
}

/// Terminals of fewer columns are not wrapped for.
const NARROWEST: u16 = 60;

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // A serial console says that it has no columns at all: there, and where words would be cut to pieces, long lines run on.
    if table.width().is_some_and(|columns| columns >= NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => printable(text),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{}={}", printable(name), cell(value)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Flush left, two spaces between columns, none at the ends of lines.
fn text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Text from elsewhere as a terminal may show it: control characters could move its cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Writes to stdout what the command was run for. Nobody else has it: a reader that has gone away is a failure.
pub(crate) fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
        let failure = Failure::new(Exit::Failure, "cannot write to stdout").because(&error);
        match error.kind() == io::ErrorKind::BrokenPipe {
            true => failure.remedy("let what reads it read to the end, or write to a file"),
            false => failure.remedy("look at the cause"),
        }
    })
}

/// Shows on stdout what can be looked at again. A reader that has seen enough is no failure: `holdfast … | head`.
pub(crate) fn show_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failure, "cannot write to stdout").because(&error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line that is no data: to stderr.
pub(crate) fn note(line: &str) {
    // What cannot be told is not told.
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Whether a person looks at stdout.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person looks at stderr.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}
