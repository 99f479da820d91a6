//! The public listener: connections in, bounded in number and in time, each with what is known of its peer.

use crate::config::{Limits, Listen};
use crate::fault::Fault;
use crate::party::{Parties, Party, Who};
use crate::proxy;
use crate::shares::network;
use crate::strangers::{Stranger, Strangers};
use crate::tls::{Refused, Served, TlsState};
use arc_swap::ArcSwap;
use holdfast_core::peer::Peer;
use holdfast_core::{CallerName, TenantId};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

/// A connection after its handshake.
pub struct Connection {
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// What belongs to it.
    pub about: About,
}

/// What is known of a connection's peer; lives as long as the connection.
pub struct About {
    /// The certificate chain that it showed.
    pub peer: Option<Peer>,
    /// The name that it asked for, where that is one that not everybody is served under: it has shown that it may.
    pub(crate) guarded: Option<Box<str>>,
    /// The configuration that has last let it in.
    pub(crate) let_in_by: ArcSwap<Served>,
    /// Where it comes from: the socket's address, or what a configured load balancer says.
    pub source: Option<IpAddr>,
    /// Whether HTTP/2 was agreed on.
    pub is_http2: bool,
    /// Its place among the strangers, or the callers once one was served on it.
    pub(crate) stranger: Stranger,
    /// Where it comes from, as one of all who have connections, and the caller whose it is since.
    network: Arc<Party>,
    caller: OnceLock<Arc<Party>>,
    among: Arc<Parties>,
    /// Counted for as long as this lives.
    _places: (OwnedSemaphorePermit, AddressPlace),
}

impl About {
    /// Whose it is: by this nobody has all of what is everybody's.
    pub(crate) fn party(&self) -> &Arc<Party> {
        self.caller.get().unwrap_or(&self.network)
    }

    /// A registered caller was recognised on it.
    pub(crate) fn is_callers(&self, tenant: &TenantId, caller: &CallerName) {
        self.was_served(|| Some(Who::Caller(tenant.clone(), caller.clone())));
    }

    /// Somebody was served on it. It is the caller's from now on that was served on it first, if that one is known, and its network's if not.
    pub(crate) fn was_served(&self, caller: impl FnOnce() -> Option<Who>) {
        if self.caller.get().is_none()
            && let Some(caller) = caller()
        {
            // Of several who come at once on one connection it is one's.
            let _is_anothers = self.caller.set(self.among.party(caller));
        }
        self.stranger.becomes_known(self.party().number);
    }
}

/// The bound listener.
pub struct Listener {
    socket: TcpListener,
    tls: Arc<TlsState>,
    settings: Arc<Listen>,
    limits: Limits,
    places: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    strangers: Strangers,
    parties: Arc<Parties>,
    count_noise: Arc<dyn Fn(Option<IpAddr>, &'static str) + Send + Sync>,
    /// Ends every connection.
    cut: watch::Sender<()>,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// When it is taken or not ours.
    pub async fn bind(
        settings: &Listen,
        limits: &Limits,
        tls: Arc<TlsState>,
        count_noise: Arc<dyn Fn(Option<IpAddr>, &'static str) + Send + Sync>,
    ) -> Result<Self, Fault> {
        let socket = TcpListener::bind(settings.address).await.map_err(|error| {
            Fault::new(format!("cannot listen on {}", settings.address))
                .remedy("choose another `listen.address`, or stop what uses it")
                .because(error)
        })?;
        Ok(Self {
            socket,
            tls,
            settings: Arc::new(settings.clone()),
            limits: limits.clone(),
            places: Arc::new(Semaphore::new(limits.connections)),
            addresses: Addresses::of(limits.connections_per_address),
            strangers: Strangers::of(limits.connections),
            parties: Arc::default(),
            count_noise,
            cut: watch::Sender::new(()),
        })
    }

    /// The address that was bound, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until `stop` says so; each connection is handed to `serve` after its handshake, in a task of its own.
    pub async fn run<F>(
        &self,
        mut stop: watch::Receiver<bool>,
        serve: impl Fn(Connection) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = crate::serve::stopped(&mut stop) => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_peer(&error) => continue,
                Err(error) => {
                    // Out of descriptors or memory: accepting again at once would only spin.
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(address_place) = self.place_of(address.ip().to_canonical()) else {
                (self.count_noise)(Some(address.ip()), "throttled");
                continue;
            };
            // When all places are taken by callers, further peers wait in the kernel's queue.
            if self.places.available_permits() == 0 {
                self.strangers.dismiss_oldest();
            }
            let place = tokio::select! {
                place = Arc::clone(&self.places).acquire_owned() => place,
                () = crate::serve::stopped(&mut stop) => return,
            };
            let Ok(place) = place else { return };
            self.welcome((stream, address), (place, address_place), serve.clone(), stop.clone());
        }
    }

    /// Ends every connection that there is, whatever it is doing. What its requests began is finished.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// A place among those of its address, if one is left.
    fn place_of(&self, address: IpAddr) -> Option<AddressPlace> {
        match self.settings.proxy_protocol_from.contains(&address) {
            true => Some(AddressPlace::uncounted()),
            false => self.addresses.take(address),
        }
    }

    fn welcome<F>(
        &self,
        (stream, address): (TcpStream, SocketAddr),
        places: (OwnedSemaphorePermit, AddressPlace),
        serve: impl Fn(Connection) -> F + Send + 'static,
        mut stop: watch::Receiver<bool>,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let is_balancer = self.settings.proxy_protocol_from.contains(&address.ip().to_canonical());
        let tls = self.tls.current();
        let until = Instant::now() + Duration::from_secs(self.limits.handshake_seconds);
        let stranger = self.strangers.join();
        let parties = Arc::clone(&self.parties);
        let addresses = Arc::clone(&self.addresses);
        let leave = stranger.leave();
        let mut cut = self.cut.subscribe();
        let count_noise = Arc::clone(&self.count_noise);
        tokio::spawn(async move {
            let source = &Source::new(address.ip(), is_balancer);
            let count = &|reason| count_noise(source.get(), reason);
            let served = async move {
                match timeout_at(until, greet(stream, source, &addresses, &tls)).await {
                    Ok(Ok((stream, guarded, behind))) => {
                        let source = source.get();
                        let places = (places.0, behind.unwrap_or(places.1));
                        let about = about(&stream, (guarded, tls, source), (stranger, parties), places);
                        serve(Connection { stream, about }).await;
                        None
                    }
                    Ok(Err(Unwelcome::Crowded)) => {
                        count("throttled");
                        None
                    }
                    Ok(Err(Unwelcome::Refused(refused))) => {
                        tracing::debug!(error = %refused.error, peer = %address, "no handshake");
                        count("handshake");
                        Some((refused, stranger, places))
                    }
                    Err(_elapsed) => {
                        count("handshake-timeout");
                        None
                    }
                }
            };
            let refused = tokio::select! {
                refused = served => refused,
                () = leave.notified() => {
                    count("displaced");
                    None
                }
                // Of a listener that is gone nobody is cut: it has ended, and they finish.
                Ok(()) = cut.changed() => None,
            };
            // In its places, a stranger still, and counted already.
            if let Some((refused, _stranger, _places)) = refused {
                tokio::select! {
                    () = refused.linger(until) => {}
                    () = leave.notified() => {}
                    Ok(()) = cut.changed() => {}
                    () = crate::serve::stopped(&mut stop) => {}
                }
            }
        });
    }
}

/// Where a connection comes from. Behind a load balancer that is known once its header has come, and until then it is the balancer's.
struct Source {
    balancer: Option<IpAddr>,
    said: OnceLock<Option<IpAddr>>,
}

impl Source {
    fn new(address: IpAddr, is_balancer: bool) -> Self {
        let address = Some(address.to_canonical());
        match is_balancer {
            true => Self { balancer: address, said: OnceLock::new() },
            false => Self { balancer: None, said: OnceLock::from(address) },
        }
    }

    fn get(&self) -> Option<IpAddr> {
        self.said.get().copied().unwrap_or(self.balancer)
    }
}

/// Why there is nobody to serve.
enum Unwelcome {
    /// Its network has all the connections that it may have.
    Crowded,
    Refused(Refused),
}

impl<E: Into<Refused>> From<E> for Unwelcome {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// Gives the place among those of its network too, of who comes through a load balancer.
async fn greet(
    mut stream: TcpStream,
    source: &Source,
    addresses: &Arc<Addresses>,
    tls: &Served,
) -> Result<(TlsStream<TcpStream>, Option<Box<str>>, Option<AddressPlace>), Unwelcome> {
    stream.set_nodelay(true)?;
    let mut behind = None;
    if source.balancer.is_some() {
        let said = read_proxy_header(&mut stream).await?.map(|peer| peer.ip().to_canonical());
        let said = *source.said.get_or_init(|| said);
        // A balancer's own connections are not counted.
        if let Some(address) = said {
            behind = Some(addresses.take(address).ok_or(Unwelcome::Crowded)?);
        }
    }
    let (stream, guarded) = tls.accept(stream).await?;
    Ok((stream, guarded, behind))
}

/// Reads exactly the header: what follows it is TLS.
async fn read_proxy_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let refused =
        || io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header from a load balancer");
    let mut buffer = [0; proxy::MAX_HEADER];
    loop {
        let seen = stream.peek(&mut buffer).await?;
        match proxy::parse(buffer.get(..seen).unwrap_or_default()) {
            proxy::Parsed::Complete(length, source) => {
                stream.read_exact(buffer.get_mut(..length).unwrap_or_default()).await?;
                return Ok(source);
            }
            proxy::Parsed::Refused => return Err(refused()),
            proxy::Parsed::Incomplete if seen == 0 || seen == buffer.len() => return Err(refused()),
            // `peek` returns at once with what is there: ask again only when there may be more.
            proxy::Parsed::Incomplete => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn about(
    stream: &TlsStream<TcpStream>,
    (guarded, tls, source): (Option<Box<str>>, Arc<Served>, Option<IpAddr>),
    (stranger, among): (Stranger, Arc<Parties>),
    places: (OwnedSemaphorePermit, AddressPlace),
) -> About {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let peer = (!chain.is_empty()).then(|| Peer::new(chain.iter().map(|der| der.to_vec().into()).collect()));
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    About {
        peer,
        guarded,
        let_in_by: ArcSwap::new(tls),
        source,
        is_http2,
        stranger,
        network: among.party(Who::from(source)),
        caller: OnceLock::new(),
        among,
        _places: places,
    }
}

/// Errors of `accept` that concern the one connection only (accept(2)).
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Connections, or whatever else one subscriber is not to have too many of, by network.
pub(crate) struct Addresses {
    most: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

impl Addresses {
    /// So many for each.
    pub(crate) fn of(most: usize) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default() })
    }

    /// A place, if its network has one left.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let network = network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(AddressPlace { of: Some((Arc::clone(self), network)) })
    }
}

/// One network's place; given back when dropped.
pub(crate) struct AddressPlace {
    of: Option<(Arc<Addresses>, IpAddr)>,
}

impl AddressPlace {
    /// A load balancer's, behind which many peers stand.
    fn uncounted() -> Self {
        Self { of: None }
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let Some((addresses, network)) = self.of.take() else { return };
        let mut counts = addresses.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&network);
            }
        }
    }
}
