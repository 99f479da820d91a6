//! A load balancer that says where everybody comes from.

use super::peer::{Peer, Settings};
use super::{Dev, settings};
use holdfast_gateway::config::Config;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// The settings of a gateway behind it.
pub fn behind(directory: &Path) -> Config {
    let mut config = settings(&directory.join("data"));
    config.listen.proxy_protocol_from = vec![IpAddr::from([127, 0, 0, 1])];
    config
}

pub async fn from(gateway: &Dev, address: &str, who: &Settings) -> Peer {
    try_from(gateway, address, who).await.unwrap()
}

pub async fn try_from(gateway: &Dev, address: &str, who: &Settings) -> io::Result<Peer> {
    let (family, own) = if address.contains(':') { (6, "::1") } else { (4, "127.0.0.1") };
    let greeting = format!("PROXY TCP{family} {address} {own} 4711 8443\r\n");
    Peer::connect_after(gateway.running.address, who, greeting.as_bytes()).await
}
