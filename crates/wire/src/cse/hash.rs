//! The resource key hash: by it Google compares what two services have wrapped, and learns nothing of the key.

use aws_lc_rs::hmac;
use holdfast_core::Secret;

/// HMAC-SHA-256 of `ResourceKeyDigest:RESOURCE:PERIMETER` under the data encryption key; the colon stays when there is no perimeter.
pub fn resource_key_hash(key: &Secret, resource: &str, perimeter: &str) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
    for part in ["ResourceKeyDigest:", resource, ":", perimeter] {
        context.update(part.as_bytes());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.sign().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the digest's section 9.
    #[test]
    fn the_published_vectors() {
        let sequence = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        for (key, resource, perimeter, expected) in [
            (
                "f00d",
                "my_resource",
                "my_perimeter",
                "11f44b6ff00a76db0f49f5febd9fcf8bc87a6e62a1053bb87a03800519c47428",
            ),
            (
                "6a68079290123ed8f23c845cc8bda91cd961c0246b79446662919e336920cbef",
                "//googleapis.com/testcase/hJB0PzRI7nl79LC18qaV8WMDCBALBSs9BREcq79MfVw",
                "",
                "4d9aafeb06cd0e812d0f3c10f18573a5aee4c86300a104fad9b258f0b71bd813",
            ),
            (
                "05b62b91cb66f19e27789fb69eb680fac113a70a120178d6cfa6b1b4cb11bb95",
                "//googleapis.com/testcase/od8yfZiS5ZF2RN27X4ClalsV6LobL2FwKRk4qOJxWdE",
                "perimeter1",
                "1b6231a171bc10ef99dd3b08f0742620811a59191570284d32b674c531cc2da5",
            ),
            (
                sequence,
                "//googleapis.com/drive/files/1hyokExampleFile",
                "eu-legal",
                "d54d190c1dfe36b772e9afd6ff11024ec4ad077523ef48797ed8c63042f49c20",
            ),
            (
                sequence,
                "//googleapis.com/drive/files/1hyokExampleFile",
                "",
                "14f61974909053fb32fc4340e3e1537ac6839a72a8e14a53ecd62da49e2a433d",
            ),
        ] {
            let key = Secret::new(hex::decode(key).unwrap());
            assert_eq!(hex::encode(resource_key_hash(&key, resource, perimeter)), expected);
        }
    }
}
