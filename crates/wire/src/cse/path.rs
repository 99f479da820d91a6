//! The methods, by the last part of their path.

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// One of the methods.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Method {
            $($(#[$doc])* $variant,)+
        }

        impl Method {
            /// Every method.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in paths, policies and events.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What metrics call it.
            pub const fn route(self) -> &'static str {
                match self { $(Self::$variant => concat!("cse-", $name),)+ }
            }
        }
    };
}

methods! {
    /// What the service can do.
    Status = "status";
    /// The public keys of its own tokens.
    Certs = "certs";
    /// Wraps a data encryption key.
    Wrap = "wrap";
    /// Unwraps it.
    Unwrap = "unwrap";
    /// Lets somebody act for a user, on one object.
    Delegate = "delegate";
    /// Wraps for an administrator, without Google.
    PrivilegedWrap = "privilegedwrap";
    /// Unwraps for an administrator or another service, without Google.
    PrivilegedUnwrap = "privilegedunwrap";
    /// Takes over what another service has wrapped.
    Rewrap = "rewrap";
    /// Tells by a hash which key is wrapped.
    Digest = "digest";
    /// Signs with a user's private key.
    PrivateKeySign = "privatekeysign";
    /// Decrypts with it.
    PrivateKeyDecrypt = "privatekeydecrypt";
    /// Decrypts with it for an administrator, without Google.
    PrivilegedPrivateKeyDecrypt = "privilegedprivatekeydecrypt";
    /// Wraps a user's private key for an administrator.
    WrapPrivateKey = "wrapprivatekey";
}

impl Method {
    /// The method of this path below the service's own, `/` first; the whole of it must fit.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.strip_prefix('/')?;
        // What it was called before.
        let name = if name == "takeout_unwrap" { Self::PrivilegedUnwrap.name() } else { name };
        Self::ALL.iter().copied().find(|method| method.name() == name)
    }

    /// Whether it is read, and needs no token; all others are posted.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Status | Self::Certs)
    }

    /// Whether an administrator's or another service's word is enough, without Google's.
    pub const fn is_privileged(self) -> bool {
        matches!(
            self,
            Self::PrivilegedWrap
                | Self::PrivilegedUnwrap
                | Self::PrivilegedPrivateKeyDecrypt
                | Self::WrapPrivateKey
        )
    }

    /// Whether the user says who it is; else Google's own servers call, for nobody.
    pub const fn has_authentication(self) -> bool {
        !self.is_read() && !matches!(self, Self::Rewrap | Self::Digest)
    }

    /// Whether Google says what the user may do.
    pub const fn has_authorization(self) -> bool {
        !self.is_read() && !self.is_privileged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_path_and_one_has_two() {
        for method in Method::ALL {
            assert_eq!(Method::of(&format!("/{}", method.name())), Some(*method));
        }
        assert_eq!(Method::of("/takeout_unwrap"), Some(Method::PrivilegedUnwrap));
        for bad in ["", "/", "wrap", "/wrap/", "//wrap", "/Wrap", "/wrap/x", "/%77rap", "/./wrap", "/../wrap"]
        {
            assert_eq!(Method::of(bad), None, "{bad}");
        }
    }

    /// The table of methods and their tokens, row by row.
    #[test]
    fn who_must_speak_for_what() {
        for (method, authentication, authorization) in [
            (Method::Status, false, false),
            (Method::Certs, false, false),
            (Method::Wrap, true, true),
            (Method::Unwrap, true, true),
            (Method::Delegate, true, true),
            (Method::PrivilegedWrap, true, false),
            (Method::PrivilegedUnwrap, true, false),
            (Method::Rewrap, false, true),
            (Method::Digest, false, true),
            (Method::PrivateKeySign, true, true),
            (Method::PrivateKeyDecrypt, true, true),
            (Method::PrivilegedPrivateKeyDecrypt, true, false),
            (Method::WrapPrivateKey, true, false),
        ] {
            let asked = (method.has_authentication(), method.has_authorization());
            assert_eq!(asked, (authentication, authorization), "{method:?}");
        }
    }
}
