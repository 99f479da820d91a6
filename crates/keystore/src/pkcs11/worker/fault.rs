//! What a module's error codes mean here.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Fault {
    /// The input does not verify.
    Integrity,
    /// The token cannot take input of this form.
    Malformed,
    /// The token has no such operation.
    Unsupported,
    /// No key has this CKA_ID.
    NoSuchKey,
    /// No object is named so, or several are: the CKA_ID of each.
    NotOne(Vec<u8>),
    /// A key that was there is not there any more.
    Gone,
    /// Something is being brought in, which may take long.
    Busy,
    /// The token does not take the PIN.
    Pin(String),
    /// The token or its module fails.
    Token {
        /// The code, if the module gave one.
        code: Option<RvError>,
        /// The function and its code, for the operator.
        why: String,
    },
}

impl Fault {
    /// Our own finding.
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self::Token { code: None, why: why.into() }
    }

    /// Whether the session is gone, or the login with it: another one may do.
    pub(super) fn is_of_the_session(&self) -> bool {
        let Self::Token { code: Some(code), .. } = self else { return false };
        matches!(
            code,
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::DeviceRemoved
                | RvError::DeviceError
                | RvError::TokenNotPresent
                | RvError::UserNotLoggedIn
                | RvError::OperationActive
        )
    }

    /// Whether a handle that was looked up is none any longer.
    pub(super) fn is_of_a_handle(&self) -> bool {
        let Self::Token { code: Some(code), .. } = self else { return false };
        matches!(
            code,
            RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::WrappingKeyHandleInvalid
                | RvError::UnwrappingKeyHandleInvalid
        )
    }

    /// Some modules fail in the same words when the input does not verify and when they themselves do not work. In doubt the key is asked for
    /// something that it can do: if it does, it is the input.
    pub(super) fn unless(self, works: impl FnOnce() -> Result<bool, Fault>) -> Self {
        let Self::Token { code: Some(code), .. } = &self else { return self };
        let ambiguous = matches!(
            code,
            RvError::GeneralError | RvError::FunctionFailed | RvError::ArgumentsBad | RvError::DeviceError
        );
        match ambiguous && works().unwrap_or(false) {
            true => Self::Integrity,
            false => self,
        }
    }

    /// Whether an operation may still be active in the session.
    pub(super) const fn leaves_the_session_in_doubt(&self) -> bool {
        matches!(self, Self::Token { .. })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, which grows")]
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let why = match &error {
            Error::Pkcs11(code, function) => format!("C_{function:?}: {}", name(code)),
            other => other.to_string(),
        };
        match error {
            Error::Pkcs11(
                RvError::MechanismInvalid
                | RvError::MechanismParamInvalid
                | RvError::CurveNotSupported
                | RvError::DomainParamsInvalid
                | RvError::FunctionNotSupported
                | RvError::KeySizeRange
                | RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent,
                _,
            )
            | Error::NotSupported
            | Error::NullFunctionPointer => Self::Unsupported,
            // What SoftHSM says of OAEP hashes that it does not have. Our own arguments are always the same.
            Error::Pkcs11(RvError::ArgumentsBad, Function::DecryptInit) => Self::Unsupported,
            Error::Pkcs11(
                RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked,
                Function::Login,
            ) => Self::Pin(why),
            Error::Pkcs11(code, function) => match (opens(function), code) {
                (
                    true,
                    RvError::EncryptedDataInvalid
                    | RvError::EncryptedDataLenRange
                    | RvError::WrappedKeyInvalid
                    | RvError::WrappedKeyLenRange
                    | RvError::DataInvalid
                    | RvError::DataLenRange,
                ) => Self::Integrity,
                (_, RvError::DataInvalid | RvError::DataLenRange) => Self::Malformed,
                (_, code) => Self::Token { code: Some(code), why },
            },
            _ => Self::Token { code: None, why },
        }
    }
}

/// Whether it is a function that says by its code that its input does not verify.
const fn opens(function: Function) -> bool {
    matches!(function, Function::Decrypt | Function::UnwrapKey)
}

/// As the standard writes it.
fn name(code: &RvError) -> String {
    let camel = format!("{code:?}");
    let mut name = String::from("CKR");
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: RvError, function: Function) -> Fault {
        Error::Pkcs11(code, function).into()
    }

    #[test]
    fn codes_are_told_as_the_standard_writes_them() {
        let Fault::Token { why, .. } = fault(RvError::GeneralError, Function::Sign) else { panic!() };
        assert_eq!(why, "C_Sign: CKR_GENERAL_ERROR");
    }

    #[test]
    fn what_does_not_verify_is_no_failure_of_the_token_and_the_other_way_round() {
        assert!(matches!(fault(RvError::EncryptedDataInvalid, Function::Decrypt), Fault::Integrity));
        assert!(matches!(fault(RvError::WrappedKeyInvalid, Function::UnwrapKey), Fault::Integrity));
        for (code, function) in [
            (RvError::EncryptedDataInvalid, Function::Encrypt),
            (RvError::GeneralError, Function::Decrypt),
            (RvError::FunctionFailed, Function::UnwrapKey),
        ] {
            assert!(matches!(fault(code, function), Fault::Token { .. }), "{code:?}");
        }
        assert!(fault(RvError::DeviceRemoved, Function::Sign).is_of_the_session());
        assert!(fault(RvError::KeyHandleInvalid, Function::SignInit).is_of_a_handle());
        assert!(!fault(RvError::GeneralError, Function::Sign).is_of_the_session());
    }
}
