//! The protocols that requests come through, and the keys that belong to one of them.

use core::fmt;

/// A protocol, by which requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Our own.
    Native,
    /// AWS KMS's external key store.
    AwsXks,
    /// Google Workspace's client-side encryption.
    GoogleCse,
    /// Microsoft's Double Key Encryption.
    MsDke,
    /// The proxy of Azure Managed HSM's external keys.
    AzureEkm,
    /// What the gateway does by itself.
    Gateway,
}

impl Protocol {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Native, Self::AwsXks, Self::GoogleCse, Self::MsDke, Self::AzureEkm, Self::Gateway];
    /// Those that a key can be created for.
    pub const OF_KEYS: [Self; 5] = [Self::Native, Self::AwsXks, Self::GoogleCse, Self::MsDke, Self::AzureEkm];

    /// Its name in policies, events, metrics and bindings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::AwsXks => "aws-xks",
            Self::GoogleCse => "google-cse",
            Self::MsDke => "ms-dke",
            Self::AzureEkm => "azure-ekm",
            Self::Gateway => "gateway",
        }
    }

    /// From its name.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == text)
    }

    /// The protocol that a key was created for, from its name.
    pub fn of_key(text: &str) -> Option<Self> {
        Self::OF_KEYS.into_iter().find(|protocol| protocol.name() == text)
    }

    /// Whether it uses only keys that were created for it. So it is where a ciphertext is bound to nothing: what opens it is then the key alone, and a
    /// key that also works elsewhere would open there what was made here.
    pub const fn has_own_keys(self) -> bool {
        match self {
            Self::MsDke | Self::AzureEkm => true,
            Self::Native | Self::AwsXks | Self::GoogleCse | Self::Gateway => false,
        }
    }

    /// Whether its keys have one version for ever. So it is where neither a ciphertext nor who asks to open it says which version made it, and the provider
    /// takes the key that it was told once for the same key always.
    pub const fn has_one_version(self) -> bool {
        match self {
            Self::AzureEkm => true,
            Self::Native | Self::AwsXks | Self::GoogleCse | Self::MsDke | Self::Gateway => false,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::from_name(protocol.name()), Some(protocol));
            let of_keys = (protocol != Protocol::Gateway).then_some(protocol);
            assert_eq!(Protocol::of_key(protocol.name()), of_keys);
        }
        assert_eq!(Protocol::from_name("Native"), None);
    }
}
