//! What only this module can see; the law itself is tested in `tests/law`, from outside.

use super::proof::{Intent, Permit};
use super::recover::{OpenIntent, stop_order};
use crate::action::Action;
use crate::command::Command;
use crate::error::ErrorKind;
use crate::id::{OperationId, TenantId, TokenId};
use crate::lifecycle::Transition;
use crate::stop::StopEpoch;

#[test]
fn exactly_the_stop_orders_can_be_given_again_from_their_record() {
    let key = || Some("kek".parse().unwrap());
    let token = format!("alice {}", TokenId::from_bytes([1; 16]));
    for action in Action::ALL {
        let subject = if *action == Action::RevokeToken {
            token.as_str()
        } else if *action == Action::DestroyKey {
            "after 7 days"
        } else {
            "alice"
        };
        let again = stop_order(*action, key(), Some(subject));
        assert_eq!(again.as_ref().map(Command::action), action.is_stop().then_some(*action));
        // Their record says again the same of them.
        if let Some(command) = again {
            let told = super::command::subject(&command);
            assert!(told.is_none_or(|told| *told == *subject), "{}", action.name());
            let says_for_how_long = matches!(
                command,
                Command::TransitionKey { verb: Transition::Destroy(Some(period)), .. } if period.days() == 7
            );
            assert_eq!(says_for_how_long, *action == Action::DestroyKey);
        }
    }
}

#[test]
fn a_stop_is_given_up_only_for_what_will_not_pass() {
    let passing: Vec<_> = ErrorKind::ALL
        .into_iter()
        .filter(|kind| super::command::is_passing(*kind))
        .map(ErrorKind::code)
        .collect();
    let expected = [
        "conflict",
        "throttled",
        "deadline",
        "key-store-unavailable",
        "state-unavailable",
        "audit-unavailable",
    ];
    assert_eq!(passing, expected);
}

#[test]
fn only_a_stop_order_s_own_permit_goes_ahead_of_the_log() {
    let [this, another] = [1, 2].map(|byte| OperationId::from_bytes([byte; 16]));
    let goes_ahead = |operation, action| {
        let tenant: TenantId = "acme".parse().unwrap();
        let permit = Permit::own(this, tenant.clone(), "carol".parse().unwrap(), StopEpoch::END);
        Intent::urgent(permit, OpenIntent { operation, tenant, action, key: None, subject: None }).is_ok()
    };
    assert!(goes_ahead(this, Action::SuspendTenant));
    assert!(!goes_ahead(another, Action::SuspendTenant));
    assert!(!goes_ahead(this, Action::ResumeTenant));
}
