//! How far the kernel keeps a vendor's module from the gateway.

/// A level of Landlock that is in force for a module's process; none where the kernel has no Landlock, or nothing was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Confinement(u8);

/// The newest level that is asked for: with it, all of it holds.
const WHOLE: u8 = 6;

/// What a kernel does not hold a module to that has a lower level than this, and since which Linux it does.
const GAPS: [(u8, &str); 2] = [
    (3, "cutting files short in the gateway's directory (Linux 6.2)"),
    (6, "signalling the gateway, or connecting to abstract UNIX sockets (Linux 6.12)"),
];

impl Confinement {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// From the number of the level, as Landlock counts its ABI.
    pub fn of_level(level: u8) -> Self {
        Self(level.min(WHOLE))
    }

    /// The number of the level.
    pub const fn level(self) -> u8 {
        self.0
    }

    /// Whether anything is kept from the module.
    pub const fn is_any(self) -> bool {
        self.0 > 0
    }

    /// What the kernel does not keep the module from, of what it is asked to.
    pub fn gaps(self) -> Vec<&'static str> {
        GAPS.iter().filter(|(level, _)| self.0 < *level).map(|(_, gap)| *gap).collect()
    }

    /// What whoever runs the gateway must know of the module of this token; nothing where all of it holds.
    pub fn notice(self, token: &str) -> Option<String> {
        let gaps = self.gaps();
        if !self.is_any() {
            return Some(format!(
                "the module of token `{token}` is not confined: it can reach what the gateway's user can (`token.confined`, or a kernel without Landlock)"
            ));
        }
        (!gaps.is_empty()).then(|| {
            format!(
                "the module of token `{token}` is confined in part: it can neither read nor write in the gateway's directory, nor trace the gateway; this kernel \
                 does not keep it from {}: a newer one does (Landlock ABI {} of {WHOLE})",
                gaps.join("; from "),
                self.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_told() {
        let told = |level| Confinement::of_level(level).notice("t").unwrap_or_default();
        assert!(told(0).contains("not confined"));
        for level in [1, 2] {
            assert!(
                told(level).contains("in part")
                    && told(level).contains("short")
                    && told(level).contains("signalling")
            );
        }
        for level in [3, 5] {
            assert!(
                told(level).contains("in part")
                    && !told(level).contains("short")
                    && told(level).contains("signalling")
            );
        }
        for level in [6, 7, u8::MAX] {
            assert_eq!(told(level), "");
        }
    }
}
