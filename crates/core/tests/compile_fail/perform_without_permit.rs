//! No key is used without a permit.
use holdfast_core::Error;
use holdfast_core::key::KeyMaterial;
use holdfast_core::port::KeyStore;
use holdfast_core::work::{Product, Work};

async fn perform<S: KeyStore>(store: &S, key: KeyMaterial<'_>) -> Result<Product, Error> {
    store.perform(key, Work::Encapsulate).await
}

fn main() {}
