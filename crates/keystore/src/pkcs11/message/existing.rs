//! Objects that other programs have made: how they are named, and what the token says of one.

use super::{Evidence, NotAFrame, Reader, Writer};

/// An object as it is named in the token. What is empty is not looked at; one of the two is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// Its CKA_ID.
    pub id: &'a [u8],
    /// Its CKA_LABEL.
    pub label: &'a str,
    /// Whether it is a private key, or a secret one.
    pub private: bool,
}

/// What the token says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing<'a> {
    /// As read from the token.
    pub evidence: Evidence,
    /// What it may be used for.
    pub uses: Uses,
    /// CKA_KEY_TYPE.
    pub key_type: u64,
    /// CKA_VALUE_LEN of a secret key, in bytes; 0 of a private one.
    pub length: u32,
    /// CKA_EC_PARAMS; empty where there are none.
    pub parameters: &'a [u8],
    /// Its CKA_ID.
    pub id: &'a [u8],
    /// Its CKA_LABEL; empty where it is no UTF-8.
    pub label: &'a str,
    /// Of the public half that has the same CKA_ID, or the same label where there is none: an RSA modulus, or a point as CKA_EC_POINT has it.
    /// Empty for a secret key, and for a private one without its public half.
    pub public: &'a [u8],
    /// The RSA public exponent; empty for all others.
    pub exponent: &'a [u8],
}

/// CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE and CKA_TRUSTED of a key, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses(pub u8);

impl Uses {
    /// CKA_ENCRYPT.
    pub const ENCRYPT: Self = Self(1);
    /// CKA_DECRYPT.
    pub const DECRYPT: Self = Self(1 << 1);
    /// CKA_SIGN.
    pub const SIGN: Self = Self(1 << 2);
    /// CKA_VERIFY.
    pub const VERIFY: Self = Self(1 << 3);
    /// CKA_WRAP.
    pub const WRAP: Self = Self(1 << 4);
    /// CKA_UNWRAP.
    pub const UNWRAP: Self = Self(1 << 5);
    /// CKA_DERIVE.
    pub const DERIVE: Self = Self(1 << 6);
    /// CKA_TRUSTED: no use, but what it is used for.
    pub const TRUSTED: Self = Self(1 << 7);

    const NAMED: [(Self, &'static str); 8] = [
        (Self::ENCRYPT, "encrypt"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
        (Self::VERIFY, "verify"),
        (Self::WRAP, "wrap"),
        (Self::UNWRAP, "unwrap"),
        (Self::DERIVE, "derive"),
        (Self::TRUSTED, "trusted"),
    ];

    /// These and others.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those of these that are not among others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether one of those is among these.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether it is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of those that are true.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(one, _)| self.has(*one)).map(|(_, name)| name)
    }
}

impl<'a> Object<'a> {
    pub(super) fn write(self, to: Writer<'_>) -> Writer<'_> {
        let Self { id, label, private } = self;
        to.put(&[u8::from(private)]).bytes(id).bytes(label.as_bytes())
    }

    pub(super) fn read(fields: &mut Reader<'a>) -> Result<Self, NotAFrame> {
        Ok(Self { private: fields.flag()?, id: fields.bytes()?, label: fields.text()? })
    }
}

impl<'a> Existing<'a> {
    pub(super) fn write<'w>(&self, to: Writer<'w>) -> Writer<'w> {
        let Self { evidence, uses, key_type, length, parameters, id, label, public, exponent } = self;
        to.put(&[evidence.to_byte(), uses.0])
            .put(&key_type.to_be_bytes())
            .put(&length.to_be_bytes())
            .bytes(parameters)
            .bytes(id)
            .bytes(label.as_bytes())
            .bytes(public)
            .bytes(exponent)
    }

    pub(super) fn read(fields: &mut Reader<'a>) -> Result<Self, NotAFrame> {
        let [evidence, uses] = fields.array()?;
        Ok(Self {
            evidence: Evidence::from_byte(evidence).ok_or(NotAFrame)?,
            uses: Uses(uses),
            key_type: u64::from_be_bytes(fields.array()?),
            length: fields.u32()?,
            parameters: fields.bytes()?,
            id: fields.bytes()?,
            label: fields.text()?,
            public: fields.bytes()?,
            exponent: fields.bytes()?,
        })
    }
}
