//! The native API as somebody uses it: every answer is held against the document.

use super::peer::Peer;
use super::schemas::Schemas;
use super::{Answer, Dev};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub const T: &str = "/v1/tenants/dev";

pub struct Api {
    pub peer: Peer,
    pub schemas: Schemas,
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap_or_else(|| panic!("no bytes: {value}"))).unwrap()
}

impl Api {
    pub async fn developer(gateway: &Dev) -> Self {
        Self::of(gateway.developer().await).await
    }

    pub async fn of(mut peer: Peer) -> Self {
        let document = peer.ask("GET", "/openapi.json", "").await.expect(200).json();
        Self { peer, schemas: Schemas::new(document) }
    }

    pub async fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let answer = self.peer.ask(method, path, body).await;
        self.schemas.check(method, path, &answer);
        answer
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &body.to_string()).await
    }

    pub async fn put(&mut self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", path, &body.to_string()).await
    }

    pub async fn create(&mut self, key: &Value) -> Value {
        self.post(&format!("{T}/keys"), key).await.expect(201).json()
    }

    /// A use of a key that succeeds.
    pub async fn use_key(&mut self, key: &str, verb: &str, body: &Value) -> Value {
        self.post(&format!("{T}/keys/{key}/{verb}"), body).await.expect(200).json()
    }

    /// A use of a key, however it ends.
    pub async fn try_key(&mut self, key: &str, verb: &str, body: &Value) -> Answer {
        self.post(&format!("{T}/keys/{key}/{verb}"), body).await
    }

    /// A verb of a key's life.
    pub async fn turn(&mut self, key: &str, verb: &str) -> Answer {
        self.post(&format!("{T}/keys/{key}/{verb}"), &json!({})).await
    }

    pub async fn public_key(&mut self, key: &str) -> Value {
        self.get(&format!("{T}/keys/{key}/public-key")).await.expect(200).json()
    }
}
