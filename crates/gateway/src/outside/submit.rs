//! One log's checkpoint to one witness (C2SP tlog-witness v1.0.0, the log's side).

use super::client::Client;
use holdfast_audit::Refusal;
use holdfast_audit::key::VerifierKey;
use holdfast_audit::note::{Note, NoteSignature};
use holdfast_audit::reader::LogReader;
use holdfast_audit::witness::Request;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// How often the older size is taken from the witness, which somebody else may be telling of this log too.
const ATTEMPTS: usize = 4;

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its line, and the time it states.
    Cosigned(NoteSignature, u64),
    /// It has seen more of this log than is published by now: ask again.
    Early,
    /// It knows another history, or a longer one.
    Contradicts(String),
    /// Our own files do not give the proof that the log continues what it cosigned.
    Unproven(String),
    /// It answered, and not with a cosignature.
    Refused(String),
    /// It did not answer.
    Unreachable(String),
}

/// A log at its newest checkpoint.
pub(super) struct View {
    pub(super) reader: LogReader,
    pub(super) note: Note,
    /// No checkpoint of this log covers more.
    pub(super) reach: u64,
}

/// Submits, beginning with the size that the witness cosigned last, as far as that is known.
pub(super) async fn submit(
    client: &Client,
    witness: &VerifierKey,
    view: &Arc<View>,
    known: u64,
    patience: Duration,
) -> Outcome {
    let mut unproven = None;
    let outcome = converse(client, witness, view, (known, &mut unproven), patience).await;
    match (outcome, unproven) {
        (outcome @ (Outcome::Cosigned(..) | Outcome::Contradicts(_)), _) | (outcome, None) => outcome,
        // Whether or not it answers: it is our files that cannot be believed.
        (
            Outcome::Early | Outcome::Unproven(_) | Outcome::Refused(_) | Outcome::Unreachable(_),
            Some(why),
        ) => Outcome::Unproven(why),
    }
}

/// The same, and notes in `unproven` which proof could not be made.
async fn converse(
    client: &Client,
    witness: &VerifierKey,
    view: &Arc<View>,
    (known, unproven): (u64, &mut Option<String>),
    patience: Duration,
) -> Outcome {
    let size = view.reader.checkpoint().size;
    let mut old = known.min(size);
    for _ in 0..ATTEMPTS {
        let body = match request(view, old).await {
            Ok(body) => body,
            Err(refusal) => {
                let why = format!("`{}`: {}", refusal.file.display(), refusal.problem);
                if old == 0 || unproven.is_some() {
                    return Outcome::Unproven(why);
                }
                // From no entries there is nothing to prove, and it answers with the size that it has seen: it is asked in any case.
                (old, *unproven) = (0, Some(why));
                continue;
            }
        };
        let (status, body) = match client.submit(body, patience).await {
            Ok(answer) => answer,
            Err(cause) => return Outcome::Unreachable(cause),
        };
        match status {
            StatusCode::OK => return cosigned(view, witness, &body),
            StatusCode::CONFLICT => match body.trim_end().parse::<u64>() {
                Ok(theirs) if theirs > view.reach => {
                    return Outcome::Contradicts(format!(
                        "it cosigned {theirs} entries, and the log has {}: an older copy of the data directory was put back",
                        view.reach
                    ));
                }
                Ok(theirs) if theirs > size => return Outcome::Early,
                Ok(theirs) if theirs != old => old = theirs,
                Ok(_) | Err(_) => return Outcome::Refused("it names no size other than ours".to_owned()),
            },
            StatusCode::UNPROCESSABLE_ENTITY if old > 0 => {
                return Outcome::Contradicts(format!(
                    "it cosigned {old} entries that this log does not continue: among them are others than ours"
                ));
            }
            StatusCode::NOT_FOUND => {
                return Outcome::Refused(
                    "it does not know the log: who runs it adds the line of the log's `log.vkey` to its list, and sends SIGHUP"
                        .to_owned(),
                );
            }
            status => {
                let said: String = body.lines().next().unwrap_or_default().chars().take(200).collect();
                return Outcome::Refused(format!("it answered {}: {said}", status.as_u16()));
            }
        }
    }
    Outcome::Refused("somebody else submits this log too".to_owned())
}

/// The body, with its proof out of the tiles.
async fn request(view: &Arc<View>, old: u64) -> Result<String, Refusal> {
    let proving = Arc::clone(view);
    let proof = tokio::task::spawn_blocking(move || proving.reader.prove_consistency(old)).await;
    // A task that panicked has proven nothing, and is logged by the runtime.
    let proof = proof.unwrap_or_else(|_| Ok(Vec::new()))?;
    Ok(Request { old, proof, note: view.note.clone() }.to_string())
}

/// Takes the witness's own line out of the answer, if it is good.
fn cosigned(view: &View, witness: &VerifierKey, lines: &str) -> Outcome {
    let wrong = |what: &str| Outcome::Refused(format!("it answered with {what}"));
    let Ok(mut note) = Note::parse(format!("{}{lines}", view.note).as_bytes()) else {
        return wrong("what is no cosignature");
    };
    note.keep_only(&[witness]);
    let time = note.verify(&[witness]).ok().and_then(|signed| signed.first()?.time);
    match (time, note.signatures().first()) {
        (Some(time), Some(line)) => Outcome::Cosigned(line.clone(), time),
        (_, _) => wrong("no good cosignature by the configured key"),
    }
}
