//! Keys: their use, their records, their life.

use super::{LIMIT_BATCH, LIMIT_SMALL, LIMIT_USE};
use crate::native::message::AnswerBody;
use crate::native::message::{
    ActivateKey, AdoptKey, Agree, AgreeAnswer, ApproveCopy, Batch, BatchAnswer, BeginImport,
    CiphertextAnswer, ConfirmArchive, CreateKey, DataKey, DataKeyAnswer, Decapsulate, Decrypt, DestroyKey,
    EmergencyCopy, Empty, Encapsulate, EncapsulateAnswer, Encrypt, FinishImport, ImportBegun, Key,
    KeyArchived, Keys, LabelKey, Mac, MacAnswer, PlaintextAnswer, PublicKeyAnswer, Random, RandomAnswer,
    RecordInventory, RequestCopy, Rewrap, ScheduleKey, Sign, SignAnswer, TransitionVersion, UnarchiveKey,
    Unwrap, Verb, Verify, VerifyAnswer, VerifyMac, Versions, Wrap,
};
use crate::native::route::{Endpoint, Parameter, Route};
use holdfast_core::lifecycle::{Transition, VersionVerb};

pub(super) const ROUTES: &[Route] = &[
    Route::post("encrypt", "/v1/tenants/{tenant}/keys/{key}/encrypt", Endpoint::Use(Verb::Encrypt), "Encrypt bytes")
        .takes::<Encrypt>(LIMIT_USE, r#"{"plaintext":"aGVsbG8=","context":{"invoice":"4711"}}"#)
        .gives::<CiphertextAnswer>(),
    Route::post("decrypt", "/v1/tenants/{tenant}/keys/{key}/decrypt", Endpoint::Use(Verb::Decrypt), "Decrypt a ciphertext, or open a data key")
        .takes::<Decrypt>(LIMIT_USE, r#"{"ciphertext":"aGZ0AQ==","context":{"invoice":"4711"}}"#)
        .gives::<PlaintextAnswer>(),
    Route::post("wrap", "/v1/tenants/{tenant}/keys/{key}/wrap", Endpoint::Use(Verb::Wrap), "Wrap bytes that the caller brings")
        .takes::<Wrap>(LIMIT_USE, r#"{"plaintext":"AAECAwQFBgcICQoLDA0ODw=="}"#)
        .gives::<CiphertextAnswer>(),
    Route::post("unwrap", "/v1/tenants/{tenant}/keys/{key}/unwrap", Endpoint::Use(Verb::Unwrap), "Unwrap them again")
        .takes::<Unwrap>(LIMIT_USE, r#"{"ciphertext":"aGZ0AQ=="}"#)
        .gives::<PlaintextAnswer>(),
    Route::post("data-key", "/v1/tenants/{tenant}/keys/{key}/datakey", Endpoint::Use(Verb::DataKey), "Make a data key")
        .takes::<DataKey>(LIMIT_SMALL, r#"{"length":32,"with_plaintext":true,"context":{"table":"orders"}}"#)
        .or_nothing()
        .gives::<DataKeyAnswer>(),
    Route::post("rewrap", "/v1/tenants/{tenant}/keys/{key}/rewrap", Endpoint::Use(Verb::Rewrap), "Encrypt anew under the newest version, or another key")
        .takes::<Rewrap>(LIMIT_USE, r#"{"ciphertext":"aGZ0AQ==","context":{"table":"orders"},"target_key":"orders-2027"}"#)
        .gives::<CiphertextAnswer>(),
    Route::post("sign", "/v1/tenants/{tenant}/keys/{key}/sign", Endpoint::Use(Verb::Sign), "Sign a message or its digest")
        .takes::<Sign>(LIMIT_USE, r#"{"message":"aGVsbG8=","scheme":"ecdsa-sha-256"}"#)
        .gives::<SignAnswer>(),
    Route::post("verify", "/v1/tenants/{tenant}/keys/{key}/verify", Endpoint::Use(Verb::Verify), "Verify a signature")
        .takes::<Verify>(LIMIT_USE, r#"{"message":"aGVsbG8=","signature":"MEUCIQ==","key_version":1}"#)
        .gives::<VerifyAnswer>(),
    Route::post("mac", "/v1/tenants/{tenant}/keys/{key}/mac", Endpoint::Use(Verb::Mac), "Compute a message authentication code")
        .takes::<Mac>(LIMIT_USE, r#"{"message":"aGVsbG8="}"#)
        .gives::<MacAnswer>(),
    Route::post("verify-mac", "/v1/tenants/{tenant}/keys/{key}/verify-mac", Endpoint::Use(Verb::VerifyMac), "Verify a message authentication code")
        .takes::<VerifyMac>(LIMIT_USE, r#"{"message":"aGVsbG8=","mac":"AAECAw=="}"#)
        .gives::<VerifyAnswer>(),
    Route::post("agree", "/v1/tenants/{tenant}/keys/{key}/agree", Endpoint::Use(Verb::Agree), "Agree on a shared secret with a peer")
        .takes::<Agree>(LIMIT_SMALL, r#"{"peer_public_key":"MCowBQ=="}"#)
        .gives::<AgreeAnswer>(),
    Route::post("encapsulate", "/v1/tenants/{tenant}/keys/{key}/encapsulate", Endpoint::Use(Verb::Encapsulate), "Make a shared secret that only this key can open")
        .takes::<Encapsulate>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<EncapsulateAnswer>(),
    Route::post("decapsulate", "/v1/tenants/{tenant}/keys/{key}/decapsulate", Endpoint::Use(Verb::Decapsulate), "Open such a shared secret")
        .takes::<Decapsulate>(LIMIT_SMALL, r#"{"ciphertext":"AAECAw=="}"#)
        .gives::<AgreeAnswer>(),
    Route::get("public-key", "/v1/tenants/{tenant}/keys/{key}/public-key", Endpoint::Use(Verb::PublicKey), "Read a key's public half")
        .with_query(&[Parameter::Version])
        .gives::<PublicKeyAnswer>(),
    Route::post("batch", "/v1/tenants/{tenant}/batch", Endpoint::Batch, "Many operations at once, each decided and recorded alone")
        .takes::<Batch>(
            LIMIT_BATCH,
            r#"{"items":[{"key":"payroll","operation":"encrypt","plaintext":"aGVsbG8="},{"key":"release","operation":"sign","message":"aGVsbG8="}]}"#,
        )
        .gives::<BatchAnswer<AnswerBody>>(),
    Route::post("random", "/v1/tenants/{tenant}/random", Endpoint::Random, "Random bytes from the key store")
        .takes::<Random>(LIMIT_SMALL, r#"{"length":32}"#)
        .gives::<RandomAnswer>(),
    Route::get("list-keys", "/v1/tenants/{tenant}/keys", Endpoint::ListKeys, "List keys by name")
        .with_query(&[Parameter::After, Parameter::Limit])
        .gives::<Keys>(),
    Route::post("create-key", "/v1/tenants/{tenant}/keys", Endpoint::CreateKey, "Create a key with its first version")
        .takes::<CreateKey>(LIMIT_SMALL, r#"{"name":"payroll","algorithm":"xaes-256-gcm","labels":{"team":"finance"}}"#)
        .gives::<Key>()
        .created(),
    Route::post("begin-import", "/v1/tenants/{tenant}/imports", Endpoint::BeginImport, "Make the import key of a key whose material will come from outside")
        .takes::<BeginImport>(LIMIT_SMALL, r#"{"name":"payroll","algorithm":"aes-256-gcm","seconds":86400}"#)
        .gives::<ImportBegun>()
        .created(),
    Route::post("import-key", "/v1/tenants/{tenant}/keys/{key}/import", Endpoint::FinishImport, "Take the material of a key that waits for it")
        .takes::<FinishImport>(LIMIT_SMALL, r#"{"wrapped":"AAECAw==","check_value":"AAECAwQFBgc=","prior_uses":1000}"#)
        .gives::<Key>(),
    Route::post("adopt-key", "/v1/tenants/{tenant}/adoptions", Endpoint::AdoptKey, "Take a key that another program made in the token")
        .takes::<AdoptKey>(LIMIT_SMALL, r#"{"name":"legacy","algorithm":"rsa-2048","purpose":"encrypt","object_label":"legacy-kek"}"#)
        .gives::<Key>()
        .created(),
    Route::post("archive-key", "/v1/tenants/{tenant}/keys/{key}/archive", Endpoint::ArchiveKey, "Write an encrypted archive of a deactivated key; its material stays")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<KeyArchived>(),
    Route::post("confirm-archive", "/v1/tenants/{tenant}/keys/{key}/confirm-archive", Endpoint::ConfirmArchive, "Leave a key's material to its archive, which somebody has opened")
        .takes::<ConfirmArchive>(LIMIT_SMALL, r#"{"code":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}"#)
        .gives::<Key>(),
    Route::post("unarchive-key", "/v1/tenants/{tenant}/keys/{key}/unarchive", Endpoint::UnarchiveKey, "Take a key's material back from its archive")
        .takes::<UnarchiveKey>(LIMIT_USE, r#"{"archive":"01JDQZ8X5G9Q0V3N4B7T2M6K8R","versions":[{"version":1,"sealed":"AAECAw=="}]}"#)
        .gives::<Key>(),
    Route::get("read-key", "/v1/tenants/{tenant}/keys/{key}", Endpoint::ReadKey, "Read a key's record").gives::<Key>(),
    Route::get("list-versions", "/v1/tenants/{tenant}/keys/{key}/versions", Endpoint::ListVersions, "List a key's versions")
        .with_query(&[Parameter::After, Parameter::Limit])
        .gives::<Versions>(),
    Route::put("label-key", "/v1/tenants/{tenant}/keys/{key}/labels", Endpoint::LabelKey, "Replace a key's labels")
        .takes::<LabelKey>(LIMIT_SMALL, r#"{"labels":{"team":"finance"},"expected_epoch":3}"#)
        .gives::<Key>(),
    Route::post("rotate-key", "/v1/tenants/{tenant}/keys/{key}/rotate", Endpoint::RotateKey, "Make a new version, which new work takes from then on")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Key>(),
    Route::post("roll-back-key", "/v1/tenants/{tenant}/keys/{key}/rollback", Endpoint::RollBackKey, "Give new work back to the active version before the one that it takes")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Key>(),
    Route::post("activate-version", "/v1/tenants/{tenant}/keys/{key}/activate-version", Endpoint::TransitionVersion(VersionVerb::Activate), "Take the deactivation of a version back")
        .takes::<TransitionVersion>(LIMIT_SMALL, r#"{"version":1}"#)
        .gives::<Key>(),
    Route::post("deactivate-version", "/v1/tenants/{tenant}/keys/{key}/deactivate-version", Endpoint::TransitionVersion(VersionVerb::Deactivate), "Say that a version is not needed any more; it still opens")
        .takes::<TransitionVersion>(LIMIT_SMALL, r#"{"version":1,"without_inventory":true}"#)
        .gives::<Key>(),
    Route::post("destroy-version", "/v1/tenants/{tenant}/keys/{key}/destroy-version", Endpoint::TransitionVersion(VersionVerb::Destroy), "Erase a deactivated version's material for ever")
        .takes::<TransitionVersion>(LIMIT_SMALL, r#"{"version":1}"#)
        .gives::<Key>(),
    Route::put("record-inventory", "/v1/tenants/{tenant}/keys/{key}/inventory", Endpoint::RecordInventory, "Record what of a key's versions is still needed")
        .takes::<RecordInventory>(
            LIMIT_SMALL,
            r#"{"current_version":3,"newest_version":3,"needed_versions":[3],"items":1200,"report_sha256":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","report_bytes":731}"#,
        )
        .gives::<Key>(),
    Route::put("schedule-key", "/v1/tenants/{tenant}/keys/{key}/schedule", Endpoint::ScheduleKey, "Say how often a key is rotated by itself")
        .takes::<ScheduleKey>(LIMIT_SMALL, r#"{"every_days":90}"#)
        .gives::<Key>(),
    Route::get("read-emergency-copy", "/v1/tenants/{tenant}/keys/{key}/emergency", Endpoint::ReadCopy, "Read how it stands with a key's emergency copies")
        .gives::<EmergencyCopy>(),
    Route::post("request-emergency-copy", "/v1/tenants/{tenant}/keys/{key}/emergency", Endpoint::RequestCopy, "Ask custodians to allow the use of a key's emergency copies")
        .takes::<RequestCopy>(LIMIT_SMALL, r#"{"seconds":14400,"reason":"both devices burnt"}"#)
        .gives::<EmergencyCopy>(),
    Route::post("approve-emergency-copy", "/v1/tenants/{tenant}/keys/{key}/emergency/shares", Endpoint::ApproveCopy, "Give a custodian's shares for such a request; with enough of them the copies are in force")
        .takes::<ApproveCopy>(LIMIT_SMALL, r#"{"shares":"YWdl"}"#)
        .gives::<EmergencyCopy>(),
    Route::delete("end-emergency-copy", "/v1/tenants/{tenant}/keys/{key}/emergency", Endpoint::EndCopy, "End the use of a key's emergency copies, and a request for it")
        .gives::<EmergencyCopy>(),
    Route::post("activate-key", "/v1/tenants/{tenant}/keys/{key}/activate", Endpoint::TransitionKey(Transition::Activate), "Put a prepared key into use, or a version that waits for a backup")
        .takes::<ActivateKey>(LIMIT_SMALL, r#"{"unprotected":true}"#)
        .or_nothing()
        .gives::<Key>(),
    Route::post("suspend-key", "/v1/tenants/{tenant}/keys/{key}/suspend", Endpoint::TransitionKey(Transition::Suspend), "Stop a key for now")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Key>(),
    Route::post("resume-key", "/v1/tenants/{tenant}/keys/{key}/resume", Endpoint::TransitionKey(Transition::Resume), "Let a key be used again")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Key>(),
    Route::post("deactivate-key", "/v1/tenants/{tenant}/keys/{key}/deactivate", Endpoint::TransitionKey(Transition::Deactivate), "No new protection by a key; what it protected still opens")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Key>(),
    Route::post("compromise-key", "/v1/tenants/{tenant}/keys/{key}/compromise", Endpoint::TransitionKey(Transition::Compromise), "Stop a key because others may know it")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Key>(),
    Route::post("destroy-key", "/v1/tenants/{tenant}/keys/{key}/destroy", Endpoint::TransitionKey(Transition::Destroy(None)), "Stop a key, and erase its material for ever after a waiting period")
        .takes::<DestroyKey>(LIMIT_SMALL, r#"{"after_days":30}"#)
        .or_nothing()
        .gives::<Key>(),
    Route::post("cancel-destruction", "/v1/tenants/{tenant}/keys/{key}/cancel-destruction", Endpoint::TransitionKey(Transition::CancelDestruction), "Take the order to destroy a key back while it waits")
        .takes::<Empty>(LIMIT_SMALL, "{}")
        .or_nothing()
        .gives::<Key>(),
];
