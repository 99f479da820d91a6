//! Where requests come in, and what is known before anything of the directory is opened.

use crate::admin;
use crate::azure_ekm;
use crate::config::Config;
use crate::directory::Directory;
use crate::external_store;
use crate::fault::Fault;
use crate::listener::Listener;
use crate::outside::Outside;
use crate::root::Law;
use crate::sealing::Orders;
use crate::stages::Stages;
use crate::tls::TlsState;
use arc_swap::ArcSwapOption;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What is known before anything of the directory is opened.
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) directory: Directory,
    pub(crate) outside: Arc<Outside>,
    pub(crate) stages: Stages,
    /// Why its device did not open the root key at this start.
    pub(crate) not_opened: Option<String>,
}

/// Where requests come in: bound once, whether or not the gateway is sealed at first.
pub(crate) struct Doors {
    pub(crate) tls: Arc<TlsState>,
    pub(crate) listener: Listener,
    pub(crate) admin: Option<TcpListener>,
    /// Who counts what is nobody's; nobody while the gateway is sealed.
    pub(crate) law: Arc<ArcSwapOption<Law>>,
    /// What custodians have ordered, and no log has yet.
    pub(crate) orders: Arc<Orders>,
}

impl Doors {
    pub(crate) async fn bind(site: &mut Site) -> Result<Self, Fault> {
        let Site { config, directory, .. } = site;
        let mut guards = external_store::guards(&config.aws_xks);
        guards.extend(azure_ekm::guards(&config.azure_ekm));
        let tls = Arc::new(TlsState::guarded(&config.tls, directory, guards)?);
        let law = Arc::new(ArcSwapOption::<Law>::empty());
        let count_noise = {
            let law = Arc::clone(&law);
            Arc::new(move |source, reason| {
                if let Some(law) = &*law.load() {
                    law.count_noise(source, reason);
                }
            })
        };
        let listener = Listener::bind(&config.listen, &config.limits, Arc::clone(&tls), count_noise).await?;
        config.listen.address =
            listener.address().map_err(|error| Fault::new("the address is not known").because(error))?;
        let admin = match config.admin.enabled {
            true => Some(admin::bind(config.admin.address).await?),
            false => None,
        };
        let orders = Arc::new(Orders::of(directory));
        Ok(Self { tls, listener, admin, law, orders })
    }

    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}
