//! Founding from the command line: `holdfast init`, and the first start of `serve --dev`.

use crate::boxed::Boxed;
use crate::config::Config;
use crate::credential::{self, Issued};
use crate::device::{Bound, InTokens, Pcrs, Place, forget_in_tokens, seal_in_tokens};
use crate::directory::{Directory, Identity, write_private};
use crate::fault::Fault;
use crate::process;
use crate::reroot::told;
use crate::root::{self, Law};
use crate::shares::{Ceremony, NewCustodian};
use crate::stages::Stages;
use crate::world::SystemWorld;
use holdfast_core::caller::{CallerKind, CallerRecord, Credential};
use holdfast_core::command::NewTenant;
use holdfast_core::pipeline::Founding;
use holdfast_core::port::World as _;
use holdfast_core::{CallerName, InstanceId, TenantId};
use holdfast_keystore::root::{RootKey, file as root_file, tpm};
use holdfast_state::DirectoryLock;
use std::path::PathBuf;
use std::sync::Arc;

/// Somebody who is to be registered at the founding.
#[derive(Debug, Clone)]
pub struct Founder {
    /// Their name.
    pub name: CallerName,
    /// The certificate that they brought, PEM; without one, one is issued to `DIR/credentials/NAME.pem` and `NAME.key`.
    pub certificate: Option<Vec<u8>>,
}

/// What a founding shall make.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The first part of each log's origin: a name that is the organisation's own, without a scheme.
    pub origin: String,
    /// Names and addresses in the server's certificate.
    pub server_names: Vec<String>,
    /// Those who run the gateway.
    pub operators: Vec<Founder>,
    /// The first tenant with its custodians, if there shall be one already.
    pub tenant: Option<(TenantId, Vec<Founder>)>,
    /// Who shall have the root key in shares.
    pub shares: Option<Shares>,
    /// The TPM that shall have it, alone or beside the shares. With neither it lies in a file.
    pub tpm: Option<Tpm>,
}

/// A root key in shares.
#[derive(Debug, Clone)]
pub struct Shares {
    /// How many open it.
    pub threshold: u8,
    /// Who each get one.
    pub custodians: Vec<NewCustodian>,
}

/// A root key that a TPM seals.
#[derive(Debug, Clone, Default)]
pub struct Tpm {
    /// Where it is.
    pub place: Place,
    /// The registers that it is bound to.
    pub pcrs: Pcrs,
}

/// What a founding made, to be told to the person who ordered it.
#[derive(Debug)]
pub struct Founded {
    /// The instance.
    pub instance: InstanceId,
    /// The authority that clients must trust.
    pub ca: PathBuf,
    /// The credentials that were issued: certificate files, each with its `.key` beside it.
    pub issued: Vec<PathBuf>,
    /// How a TPM has sealed the root key, if one has.
    pub bound: Option<Bound>,
    /// How tokens have, if they have.
    pub in_tokens: Option<InTokens>,
}

/// The tenant of a dev directory.
pub const DEV_TENANT: &str = "dev";
/// The caller whose token may do everything there.
pub const DEV_CALLER: &str = "developer";

/// Begins to found a gateway. Where its root key is to be in shares, they are handed out, and nothing else is written before each custodian has
/// answered; what is begun and not finished is removed.
///
/// # Errors
/// When the directory is not empty or cannot be written, a certificate cannot be read, two founders share one, or shares cannot be made so.
pub fn begin(directory: &Directory, plan: &Plan) -> Result<Begun, Fault> {
    // Everything that can be wrong with the plan is, before anything is written.
    let world = SystemWorld::new();
    let identity = new_identity(&world, false, &plan.origin)?;
    let mut issued = vec![];
    let mut register = |founder: &Founder, kind| registration(&world, founder, kind, &mut issued);
    let mut operators = vec![];
    for founder in &plan.operators {
        operators.push(register(founder, CallerKind::Operator)?);
    }
    let mut tenants = vec![];
    if let Some((tenant, founders)) = &plan.tenant {
        let mut callers = vec![];
        for founder in founders {
            callers.push(register(founder, CallerKind::Custodian)?);
        }
        tenants.push(NewTenant { tenant: tenant.clone(), callers, anchors: vec![], policy: None });
    }
    process::protect_memory();
    let site = Site::prepare(directory)?;
    let root = match (&plan.shares, &plan.tpm) {
        (None, None) => None,
        (Some(_), _) | (_, Some(_)) => Some(RootKey::generate(&world)?),
    };
    // First, since no custodian should have answered in vain.
    let bound = match (&root, &plan.tpm) {
        (Some(root), Some(Tpm { place, pcrs })) => {
            let sealed = tpm::seal(root, place, pcrs)?;
            let made = world.now().to_string();
            let (instance, of, bound_by) = (identity.instance, root.id()?, vec![]);
            Some(Bound { instance, root: of, made, bound_by, sealed, mac: None }.signed(root)?)
        }
        (_, _) => None,
    };
    let ceremony = match (&root, &plan.shares) {
        (Some(root), Some(Shares { threshold, custodians })) => {
            let of = (identity.instance, 1, *threshold);
            Some(Ceremony::begin(root, of, custodians, &directory.shares(), &world)?)
        }
        (_, _) => None,
    };
    let server_names = plan.server_names.clone();
    Ok(Begun {
        site,
        identity,
        operators,
        tenants,
        issued,
        server_names,
        root,
        bound,
        in_tokens: None,
        ceremony,
    })
}

/// Founds a gateway without shares.
///
/// # Errors
/// As [`begin`], and when the plan wants shares: their custodians must be asked.
pub fn init<'a>(directory: &'a Directory, plan: &'a Plan) -> Boxed<'a, Result<Founded, Fault>> {
    Box::pin(async move { begin(directory, plan)?.finish().await })
}

/// A founding that waits for its custodians, if it has any.
pub struct Begun {
    site: Site,
    identity: Identity,
    operators: Vec<CallerRecord>,
    tenants: Vec<NewTenant>,
    issued: Vec<(CallerName, Issued)>,
    server_names: Vec<String>,
    /// In memory alone, unless it is to lie in a file.
    root: Option<RootKey>,
    bound: Option<Bound>,
    in_tokens: Option<InTokens>,
    ceremony: Option<Ceremony>,
}

impl Begun {
    /// The handing out of shares, if there is one: all must have proven before the founding can be finished.
    pub fn ceremony(&mut self) -> Option<&mut Ceremony> {
        self.ceremony.as_mut()
    }

    /// Has the tokens of a configuration seal the root key, beside its shares.
    ///
    /// # Errors
    /// When it is in no shares, the configuration has no token, or one of them does not seal it.
    pub async fn seal_in_tokens(&mut self, config: &Config) -> Result<(), Fault> {
        let (Some(root), Some(_)) = (&self.root, &self.ceremony) else {
            return Err(Fault::new("a root key that tokens seal must be in shares as well")
                .remedy("found it with `--shares` too: tokens fail, and nothing else would open it"));
        };
        let of = (self.identity.instance, root);
        self.in_tokens = Some(seal_in_tokens(of, vec![], config, &self.site.directory).await?);
        Ok(())
    }

    /// Removes from the tokens what they made for a founding that does not come to its end.
    pub async fn forget_tokens(&self, config: &Config) {
        if let Some(in_tokens) = &self.in_tokens {
            forget_in_tokens(in_tokens, config, &self.site.directory).await;
        }
    }

    /// Founds the gateway.
    ///
    /// # Errors
    /// When a proof is missing, or the directory cannot be written.
    pub fn finish(self) -> Boxed<'static, Result<Founded, Fault>> {
        Box::pin(self.found())
    }

    async fn found(self) -> Result<Founded, Fault> {
        let Self {
            mut site,
            identity,
            operators,
            tenants,
            issued,
            server_names,
            root,
            bound,
            in_tokens,
            ceremony,
        } = self;
        let world = SystemWorld::new();
        let directory = site.directory.clone();
        let roster = match ceremony {
            None => None,
            Some(ceremony) => Some(ceremony.finish(world.now().to_string(), vec![])?),
        };
        let lock = site.keep()?;
        if let Some(roster) = &roster {
            write_private(&directory.root_shares(), roster.to_text()?.as_bytes())?;
        }
        if let Some(in_tokens) = &in_tokens {
            write_private(&directory.root_hsm(), in_tokens.to_text()?.as_bytes())?;
        }
        if let Some(bound) = &bound {
            write_private(&directory.root_tpm(), bound.to_text()?.as_bytes())?;
        }
        let root = match root {
            None => root_file::create(&directory.root_key(), &world)?,
            Some(root) => root,
        };
        let instance = identity.instance;
        let shares = roster.as_ref().map(told);
        let founding = Founding { instance, build: crate::BUILD, operators, tenants, shares };
        let (none, stages) = (Config::default(), Stages::default());
        let found = root::found((&directory, &identity, lock), root, founding, &none, &stages);
        drop(Box::pin(found).await?);
        let mut files = vec![];
        for (name, credential) in issued {
            files.push(store(&directory, &name, &credential)?);
        }
        let ca = credential::make_server(&directory, &server_names, world.now().seconds())?;
        Ok(Founded { instance: identity.instance, ca, issued: files, bound, in_tokens })
    }
}

/// A directory that was prepared for a founding; emptied again unless it comes to that.
struct Site {
    directory: Directory,
    /// Until it is kept.
    lock: Option<DirectoryLock>,
    was_there: bool,
}

impl Site {
    fn prepare(directory: &Directory) -> Result<Self, Fault> {
        let was_there = directory.path().exists();
        directory.prepare()?;
        let lock = DirectoryLock::take(directory.path())?;
        Ok(Self { directory: directory.clone(), lock: Some(lock), was_there })
    }

    /// From here on it is a founding: what is cut short is left for a person to look at.
    fn keep(&mut self) -> Result<DirectoryLock, Fault> {
        self.lock.take().ok_or_else(|| Fault::new("the founding was finished already"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        // Best effort: what stays is no gateway, and the next founding says so.
        let _ = std::fs::remove_dir_all(self.directory.shares());
        let _ = std::fs::remove_file(self.directory.path().join("lock"));
        if !self.was_there {
            let _ = std::fs::remove_dir(self.directory.path());
        }
    }
}

/// Founds a dev directory, marked for ever.
///
/// # Errors
/// As [`begin`].
pub(crate) async fn init_dev(
    directory: &Directory,
    config: &Config,
    stages: &Stages,
) -> Result<(Law, DirectoryLock, Identity), Fault> {
    let world = SystemWorld::new();
    let identity = new_identity(&world, true, "holdfast")?;
    let name =
        |text: &str| text.parse().map_err(|error| Fault::new("a built-in name is refused").because(error));
    let developer = CallerRecord {
        name: name(DEV_CALLER)?,
        kind: CallerKind::Developer,
        groups: vec![],
        credentials: vec![],
        tokens: vec![],
        suspended: false,
    };
    let operator = Founder { name: name("operator")?, certificate: None };
    let mut issued = vec![];
    // The directory must be found empty: what is issued is stored only after the founding.
    let operator = registration(&world, &operator, CallerKind::Operator, &mut issued)?;
    let tenant = NewTenant {
        tenant: DEV_TENANT
            .parse()
            .map_err(|error| Fault::new("a built-in name is refused").because(error))?,
        callers: vec![developer],
        anchors: vec![],
        policy: Some(Arc::from(holdfast_policy::DEV_POLICY)),
    };
    let founding = Founding {
        instance: identity.instance,
        build: crate::BUILD,
        operators: vec![operator],
        tenants: vec![tenant],
        shares: None,
    };
    let lock = Site::prepare(directory)?.keep()?;
    let root = root_file::create(&directory.root_key(), &world)?;
    let found = root::found((directory, &identity, lock), root, founding, config, stages);
    let (law, lock) = Box::pin(found).await?;
    for (name, credential) in issued {
        store(directory, &name, &credential)?;
    }
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    credential::make_server(directory, &names, world.now().seconds())?;
    Ok((law, lock, identity))
}

fn new_identity(world: &SystemWorld, dev: bool, origin: &str) -> Result<Identity, Fault> {
    let mut entropy = [0; 10];
    world.fill(&mut entropy)?;
    let now = world.now();
    if !holdfast_audit::key::is_key_name(origin) || origin.contains('/') {
        return Err(Fault::new(format!("`{origin}` cannot be the origin of a log"))
            .remedy("use a host name of your own, such as `audit.example.org`"));
    }
    Ok(Identity::new(InstanceId::new(now, entropy), dev, origin, now.to_string()))
}

fn registration(
    world: &SystemWorld,
    founder: &Founder,
    kind: CallerKind,
    issued: &mut Vec<(CallerName, Issued)>,
) -> Result<CallerRecord, Fault> {
    let key_hash = match &founder.certificate {
        Some(pem) => key_hash(&founder.name, pem)?,
        None => {
            let credential = credential::issue_client(founder.name.as_str(), world.now().seconds())?;
            let key_hash = credential.key_hash;
            issued.push((founder.name.clone(), credential));
            key_hash
        }
    };
    Ok(CallerRecord {
        name: founder.name.clone(),
        kind,
        groups: vec![],
        credentials: vec![Credential::KeyHash(key_hash)],
        tokens: vec![],
        suspended: false,
    })
}

fn key_hash(name: &CallerName, pem: &[u8]) -> Result<[u8; 32], Fault> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let refused = || {
        Fault::new(format!("the certificate of `{name}` cannot be read"))
            .remedy("give the person's own certificate in PEM, without its key")
    };
    let der = CertificateDer::from_pem_slice(pem).map_err(|error| refused().because(error))?;
    let facts =
        holdfast_identity::credential_from_certificate(&der).map_err(|error| refused().because(error))?;
    Ok(facts.key_hash)
}

fn store(directory: &Directory, name: &CallerName, credential: &Issued) -> Result<PathBuf, Fault> {
    let certificate = directory.credentials().join(format!("{name}.pem"));
    write_private(&directory.credentials().join(format!("{name}.key")), credential.key.as_bytes())?;
    write_private(&certificate, credential.certificate.as_bytes())?;
    Ok(certificate)
}
