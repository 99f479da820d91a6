//! The life of a key, and the one table of what each state permits.

use crate::action::Action;
use crate::destruction::WaitingPeriod;
use core::fmt;

/// State of a key or of one of its versions (NIST SP 800-57 part 1 rev. 5 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Made, not yet in use (§7.1).
    PreActivation,
    /// In use (§7.2).
    Active,
    /// Stopped for now; can be resumed (§7.3).
    Suspended,
    /// No new protection; what it protected can still be opened (§7.4).
    Deactivated,
    /// Somebody else may know it; opening old data needs a deliberate decision (§7.5).
    Compromised,
    /// Gone; its record stays (§7.6).
    Destroyed,
}

/// Why an operation is not permitted in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPermitted(pub KeyState);

impl KeyState {
    /// Every state, in the standard's order.
    pub const ALL: [Self; 6] = [
        Self::PreActivation,
        Self::Active,
        Self::Suspended,
        Self::Deactivated,
        Self::Compromised,
        Self::Destroyed,
    ];

    /// Its name in records, events and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActivation => "pre-activation",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }

    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == text)
    }

    /// Whether a key in this state may be used for the action: the one place that decides it.
    ///
    /// *Protect* is new cryptographic protection, *process* is reading or checking what was protected before (SP 800-57 part 1 rev. 5 §5.3.5, §7).
    /// A compromised key processes nothing here, although §7.5 would allow it with a risk assessment: a custodian makes that assessment
    /// by moving the key to `deactivated`.
    ///
    /// # Errors
    /// The state itself, when it does not permit the action.
    pub const fn permits(self, action: Action) -> Result<(), NotPermitted> {
        let permitted = match (self, action.class()) {
            (_, crate::action::Class::Inspect) => true,
            (Self::Active, crate::action::Class::Protect | crate::action::Class::Process) => true,
            (Self::Deactivated, crate::action::Class::Process) => true,
            (
                Self::PreActivation | Self::Suspended | Self::Compromised | Self::Destroyed,
                crate::action::Class::Protect | crate::action::Class::Process,
            )
            | (Self::Deactivated, crate::action::Class::Protect) => false,
            // What an administrator may do depends on the transition: see `after`.
            (Self::Destroyed, crate::action::Class::Administer) => false,
            (
                Self::PreActivation | Self::Active | Self::Suspended | Self::Deactivated | Self::Compromised,
                crate::action::Class::Administer,
            ) => true,
        };
        if permitted { Ok(()) } else { Err(NotPermitted(self)) }
    }

    /// The state after a transition (§7, figure 3); `None` where there is no such transition.
    ///
    /// A transition to the state a key is already in is none: the caller is told that nothing changed.
    /// `resumes_to` is the state that a suspended key was suspended from: resuming never gives a key more than it had. Of a destruction it is the
    /// state in the end; while it waits, [`crate::destruction::Destruction`] says what the key was.
    pub const fn after(self, transition: Transition, resumes_to: Self) -> Option<Self> {
        match (transition, self) {
            (Transition::Activate, Self::PreActivation) => Some(Self::Active),
            (Transition::Suspend, Self::Active | Self::PreActivation | Self::Deactivated) => {
                Some(Self::Suspended)
            }
            (Transition::Resume, Self::Suspended) => Some(resumes_to),
            (
                Transition::Deactivate,
                Self::Active | Self::Suspended | Self::PreActivation | Self::Compromised,
            ) => Some(Self::Deactivated),
            (
                Transition::Compromise,
                Self::PreActivation | Self::Active | Self::Suspended | Self::Deactivated,
            ) => Some(Self::Compromised),
            // Destruction is final, so never from a state in which the key still works.
            (
                Transition::Destroy(_),
                Self::PreActivation | Self::Suspended | Self::Deactivated | Self::Compromised,
            ) => Some(Self::Destroyed),
            (
                Transition::Activate,
                Self::Active | Self::Suspended | Self::Deactivated | Self::Compromised | Self::Destroyed,
            )
            | (Transition::Suspend, Self::Suspended | Self::Compromised | Self::Destroyed)
            | (
                Transition::Resume,
                Self::PreActivation | Self::Active | Self::Deactivated | Self::Compromised | Self::Destroyed,
            )
            | (Transition::Deactivate, Self::Deactivated | Self::Destroyed)
            | (Transition::Compromise, Self::Compromised | Self::Destroyed)
            | (Transition::Destroy(_), Self::Active | Self::Destroyed)
            // Where it leads stands in the order that it takes back, and not in the state.
            | (
                Transition::CancelDestruction,
                Self::PreActivation
                | Self::Active
                | Self::Suspended
                | Self::Deactivated
                | Self::Compromised
                | Self::Destroyed,
            ) => None,
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A lifecycle verb: an order that moves a key from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// Put a prepared key into use.
    Activate,
    /// Stop it for now. A stop order: always works.
    Suspend,
    /// Let it be used again.
    Resume,
    /// No new protection from now on.
    Deactivate,
    /// It may be known to others. A stop order: always works.
    Compromise,
    /// Erase the material, for ever: after so long, or after as long as the gateway's configuration says. A stop order: the key waits stopped.
    Destroy(Option<WaitingPeriod>),
    /// Take a destruction back that waits: the key is again what it was.
    CancelDestruction,
}

impl Transition {
    /// Every verb, each as it is given with nothing else said.
    pub const ALL: [Self; 7] = [
        Self::Activate,
        Self::Suspend,
        Self::Resume,
        Self::Deactivate,
        Self::Compromise,
        Self::Destroy(None),
        Self::CancelDestruction,
    ];

    /// Its name: a path segment of the API and a command of the CLI.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Deactivate => "deactivate",
            Self::Compromise => "compromise",
            Self::Destroy(_) => "destroy",
            Self::CancelDestruction => "cancel-destruction",
        }
    }

    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == text)
    }

    /// The action that the policy is asked about.
    pub const fn action(self) -> Action {
        match self {
            Self::Activate => Action::ActivateKey,
            Self::Suspend => Action::SuspendKey,
            Self::Resume => Action::ResumeKey,
            Self::Deactivate => Action::DeactivateKey,
            Self::Compromise => Action::CompromiseKey,
            Self::Destroy(_) => Action::DestroyKey,
            Self::CancelDestruction => Action::CancelDestruction,
        }
    }

    /// Whether it must take effect whatever else is broken.
    pub const fn is_stop(self) -> bool {
        self.action().is_stop()
    }
}

/// An order that moves one version of a key, which is not the one that new work takes, from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionVerb {
    /// Take a deactivation back: new work can be given back to it.
    Activate,
    /// It is not needed any more, as far as is known; it still opens.
    Deactivate,
    /// Erase its material, for ever.
    Destroy,
}

impl VersionVerb {
    /// Every verb.
    pub const ALL: [Self; 3] = [Self::Activate, Self::Deactivate, Self::Destroy];

    /// Its name: what stands before `-version` in a path segment of the API, and a command of the CLI.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::Destroy => "destroy",
        }
    }
}

impl KeyState {
    /// The state of a version after an order; `None` where there is no such transition.
    ///
    /// Only what was deactivated is destroyed, so that between the two everybody can see whether something still asks for it. Unlike a key,
    /// a version can be activated again (§7.4 knows no such transition): protecting is what new work does, and that takes another one.
    pub const fn version_after(self, verb: VersionVerb) -> Option<Self> {
        match (verb, self) {
            (VersionVerb::Activate, Self::Deactivated) => Some(Self::Active),
            (VersionVerb::Deactivate, Self::Active) => Some(Self::Deactivated),
            (VersionVerb::Destroy, Self::Deactivated) => Some(Self::Destroyed),
            (
                VersionVerb::Activate | VersionVerb::Destroy,
                Self::PreActivation | Self::Active | Self::Suspended | Self::Compromised | Self::Destroyed,
            )
            | (
                VersionVerb::Deactivate,
                Self::PreActivation
                | Self::Suspended
                | Self::Deactivated
                | Self::Compromised
                | Self::Destroyed,
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_ends_in_two_steps() {
        let table: Vec<_> = KeyState::ALL
            .into_iter()
            .flat_map(|state| VersionVerb::ALL.map(|verb| (state, verb, state.version_after(verb))))
            .filter_map(|(state, verb, after)| Some(format!("{state} {} {}", verb.name(), after?)))
            .collect();
        assert_eq!(
            table,
            ["active deactivate deactivated", "deactivated activate active", "deactivated destroy destroyed"]
        );
    }

    /// The whole table, written out, so that a change of a cell is a decision that somebody reads.
    #[test]
    fn the_table_of_what_each_state_permits() {
        let mut table = String::new();
        for state in KeyState::ALL {
            for action in [Action::Encrypt, Action::Decrypt, Action::PublicKey, Action::RotateKey] {
                let cell = if state.permits(action).is_ok() { "+" } else { "-" };
                table.push_str(cell);
            }
            table.push(' ');
        }
        assert_eq!(table, "--++ ++++ --++ -+++ --++ --+- ");
    }

    #[test]
    fn a_destroyed_key_stays_destroyed() {
        for verb in Transition::ALL {
            assert_eq!(KeyState::Destroyed.after(verb, KeyState::Active), None);
        }
    }

    #[test]
    fn a_working_key_is_never_destroyed_at_once() {
        assert_eq!(KeyState::Active.after(Transition::Destroy(None), KeyState::Active), None);
    }

    #[test]
    fn stop_orders_stop_new_protection() {
        for state in KeyState::ALL {
            for verb in Transition::ALL.into_iter().filter(|verb| verb.is_stop()) {
                if let Some(after) = state.after(verb, KeyState::Active) {
                    assert!(after.permits(Action::Encrypt).is_err(), "{verb:?} from {state}");
                }
            }
        }
    }
}
