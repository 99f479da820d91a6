//! The query string: a closed list of parameters, each at most once.

use super::route::Parameter;
use crate::json::Fault;

/// A query string's parameters as text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct QueryString<'q> {
    pub(super) after: Option<&'q str>,
    pub(super) limit: Option<&'q str>,
    pub(super) version: Option<&'q str>,
}

impl<'q> QueryString<'q> {
    /// Parses a query string, without its `?`, that can hold these parameters.
    pub(super) fn parse(text: &'q str, allowed: &[Parameter]) -> Result<Self, Fault> {
        let mut parsed = Self::default();
        for pair in text.split('&').filter(|_| !text.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(parameter) = allowed.iter().find(|parameter| parameter.name() == name) else {
                let known: Vec<_> = allowed.iter().map(|parameter| parameter.name()).collect();
                return Err(Fault::unknown(name, &known).within("query"));
            };
            if value.is_empty() || value.contains(['%', '+']) {
                return Err(
                    Fault::malformed("expected a value without percent-encoding").within(parameter.name())
                );
            }
            let slot = match parameter {
                Parameter::After => &mut parsed.after,
                Parameter::Limit => &mut parsed.limit,
                Parameter::Version => &mut parsed.version,
            };
            if slot.replace(value).is_some() {
                return Err(Fault::malformed("stands there twice").within(parameter.name()));
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_and_once() {
        let both = [Parameter::After, Parameter::Limit];
        let parsed = QueryString::parse("limit=5&after=k", &both).unwrap();
        assert_eq!(parsed, QueryString { after: Some("k"), limit: Some("5"), version: None });
        assert_eq!(QueryString::parse("", &[]).unwrap(), QueryString::default());
        for bad in
            ["x=1", "limit=5&limit=5", "limit", "limit=", "limit=%35", "&", "limit=5&", "version=1", "=5"]
        {
            assert!(QueryString::parse(bad, &both).is_err(), "{bad}");
        }
    }
}
