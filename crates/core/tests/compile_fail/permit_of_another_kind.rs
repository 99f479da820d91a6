//! A permit to read is none to use, and none to change.
use holdfast_core::Error;
use holdfast_core::key::{Generated, KeyMaterial, NewVersion};
use holdfast_core::pipeline::{Permit, Read, Use};
use holdfast_core::port::KeyStore;
use holdfast_core::work::{Product, Work};

async fn use_it<S: KeyStore>(store: &S, permit: &Permit<Read>, key: KeyMaterial<'_>) -> Result<Product, Error> {
    store.perform(permit, key, Work::Encapsulate).await
}

async fn change<S: KeyStore>(store: &S, permit: &Permit<Use>, new: NewVersion<'_>) -> Result<Generated, Error> {
    store.generate(permit, new).await
}

fn main() {}
