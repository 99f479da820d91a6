//! What is known of the key and of the gateway: what Status says, from memory.

use holdfast_wire::kubernetes::{KekId, Refused};
use std::time::Duration;

/// How the key stands, as far as is known.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// No gateway has answered yet, and this is why.
    Unknown(Refused),
    /// It can be used.
    Good(Good),
    /// It can not, by somebody's order or because something is set up wrongly.
    Stopped(Refused),
}

/// A key that can be used.
#[derive(Debug, Clone)]
pub(crate) struct Good {
    /// What new work is encrypted under.
    pub(crate) kek_id: KekId,
    /// The record that says so, by how often it had been written.
    pub(crate) epoch: u64,
    /// When the question was sent that was answered last.
    pub(crate) answered: Duration,
    /// When the last trial was begun that succeeded.
    pub(crate) tried: Duration,
    /// Why no gateway answers now that can work, if none does.
    pub(crate) lost: Option<Refused>,
}

impl Standing {
    /// What new work is encrypted under.
    ///
    /// # Errors
    /// Why there is nothing.
    pub(crate) fn kek_id(&self) -> Result<&KekId, Refused> {
        match self {
            Self::Good(good) => Ok(&good.kek_id),
            Self::Unknown(refused) | Self::Stopped(refused) => Err(refused.clone()),
        }
    }

    /// Whether no gateway answers that can work, as far as is known.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Good(good) => good.lost.is_some(),
            Self::Unknown(_) => true,
            Self::Stopped(_) => false,
        }
    }

    /// The same after no gateway was reached. What was stopped stays so.
    #[must_use]
    pub(crate) fn lost(&self, why: Refused) -> Self {
        match self {
            Self::Unknown(_) => Self::Unknown(why),
            Self::Good(good) => Self::Good(Good { lost: Some(why), ..good.clone() }),
            Self::Stopped(refused) => Self::Stopped(refused.clone()),
        }
    }

    /// Has a look find the same that is known; no news where a gateway that answers is not known to work.
    pub(crate) fn confirm(&mut self, asked: Duration, written: u64) {
        match self {
            Self::Good(Good { lost: None, answered, epoch, .. }) => (*answered, *epoch) = (asked, written),
            Self::Good(Good { lost: Some(_), .. }) | Self::Unknown(_) | Self::Stopped(_) => {}
        }
    }

    /// What Status answers: `ok` or what is the matter, and the key id that stays the same while nobody can be asked.
    ///
    /// An API server writes for as long as a key id comes, and stops three minutes after the last one. So a stop is an error, and a gateway
    /// that is lost is not: that is nothing before `grace` is over, and only a word after it.
    ///
    /// # Errors
    /// When there is no key id to give.
    pub(crate) fn health(&self, now: Duration, grace: Duration) -> Result<(String, &KekId), Refused> {
        let good = match self {
            Self::Good(good) => good,
            Self::Unknown(refused) | Self::Stopped(refused) => return Err(refused.clone()),
        };
        let silent = now.saturating_sub(good.answered);
        let healthz = match silent <= grace {
            true => "ok".to_owned(),
            false => {
                let why = good.lost.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                format!("no gateway has been able to work for {} seconds{why}", silent.as_secs())
            }
        };
        Ok((healthz, &good.kek_id))
    }

    /// One word for people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown",
            Self::Good(Good { lost: None, .. }) => "good",
            Self::Good(Good { lost: Some(_), .. }) => "lost",
            Self::Stopped(_) => "stopped",
        }
    }
}
