//! Doors that take tokens of issuers, held apart: from the native API, and one tenant's from another's.

use super::IssuerTable;
use crate::fault::Fault;

/// What a door takes.
#[derive(Debug)]
pub(crate) struct Door<'a> {
    /// How the configuration calls it.
    pub(crate) name: String,
    /// Whose keys it leads to.
    pub(crate) tenant: &'a str,
    /// Whose tokens.
    pub(crate) issuers: &'a [String],
    /// For whom.
    pub(crate) audiences: &'a [String],
}

/// Checks that a token which one door takes is taken nowhere else where other things are looked at.
///
/// # Errors
/// For a door whose issuer is no `[[issuer]]`, for an audience that such an issuer has for the native API, and for one that another tenant's door has of the same
/// issuer.
pub(crate) fn apart(issuers: &[IssuerTable], doors: &[Door<'_>]) -> Result<(), Fault> {
    for (at, door) in doors.iter().enumerate() {
        for name in door.issuers {
            let Some(issuer) = issuers.iter().find(|issuer| issuer.issuer == *name) else {
                return Err(Fault::new(format!("`{name}` of {} is no `[[issuer]]`", door.name))
                    .remedy("add a table `[[issuer]]` that says where its keys are"));
            };
            if let Some(audience) = shared(&issuer.audiences, door.audiences) {
                let problem =
                    format!("`{audience}` is an audience of {} and of the `[[issuer]]` `{name}`", door.name);
                return Err(Fault::new(problem).remedy(
                    "leave it out of the `[[issuer]]`: a token for the door is none for the native API, which looks at nothing else in it",
                ));
            }
        }
        for other in doors.iter().skip(at.saturating_add(1)).filter(|other| other.tenant != door.tenant) {
            let common = shared(door.issuers, other.issuers).and(shared(door.audiences, other.audiences));
            if let Some(audience) = common {
                let problem = format!(
                    "`{audience}` is an audience of {} and of {}, of another tenant and with a common issuer",
                    door.name, other.name
                );
                return Err(Fault::new(problem)
                    .remedy("give each an audience of its own: a token for one would open the other"));
            }
        }
    }
    Ok(())
}

fn shared<'a>(ours: &'a [String], theirs: &[String]) -> Option<&'a String> {
    ours.iter().find(|it| theirs.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const ISSUER: &str =
        "[[issuer]]\nissuer = \"https://idp\"\naudiences = [\"holdfast\"]\nkeys_url = \"https://idp/keys\"\n";

    #[test]
    fn a_token_for_one_door_is_none_for_another() {
        let issuers = Config::parse(ISSUER).unwrap().issuer;
        let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let (idp, both) = (names(&["https://idp"]), names(&["https://other", "https://idp"]));
        let (one, two, native) = (names(&["one"]), names(&["two", "one"]), names(&["one", "holdfast"]));
        let door =
            |tenant, issuers, audiences| Door { name: format!("`{tenant}`"), tenant, issuers, audiences };
        for (doors, said) in [
            (vec![door("a", &idp, &one)], None),
            (vec![door("a", &idp, &one), door("a", &idp, &two)], None),
            (vec![door("a", &both, &one)], Some("`https://other` of `a`")),
            (vec![door("a", &idp, &native)], Some("`holdfast` is an audience of `a`")),
            (
                vec![door("a", &idp, &one), door("b", &idp, &two)],
                Some("`one` is an audience of `a` and of `b`"),
            ),
        ] {
            let found = apart(&issuers, &doors).err().map(|fault| format!("{fault:?}"));
            assert_eq!(found.is_some(), said.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(said.unwrap_or_default()), "{said:?}");
        }
    }
}
