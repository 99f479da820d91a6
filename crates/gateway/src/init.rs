//! Founding from the command line: `holdfast init`, and the first start of `serve --dev`.

use crate::boxed::Boxed;
use crate::config::Config;
use crate::credential::{self, Issued};
use crate::directory::{Directory, Identity, write_private};
use crate::fault::Fault;
use crate::root::{self, Law};
use crate::stages::Stages;
use crate::world::SystemWorld;
use holdfast_core::caller::{CallerKind, CallerRecord, Credential};
use holdfast_core::command::NewTenant;
use holdfast_core::pipeline::Founding;
use holdfast_core::port::World as _;
use holdfast_core::{CallerName, InstanceId, TenantId};
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
}

/// The tenant of a dev directory.
pub const DEV_TENANT: &str = "dev";
/// The caller whose token may do everything there.
pub const DEV_CALLER: &str = "developer";

/// Founds a gateway.
///
/// # Errors
/// When the directory is not empty or cannot be written, a certificate cannot be read, or two founders share one.
pub fn init<'a>(directory: &'a Directory, plan: &'a Plan) -> Boxed<'a, Result<Founded, Fault>> {
    Box::pin(found(directory, plan))
}

async fn found(directory: &Directory, plan: &Plan) -> Result<Founded, Fault> {
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
    let founding = Founding { instance: identity.instance, build: crate::BUILD, operators, tenants };
    let none = Config::default();
    let (law, lock) =
        Box::pin(root::found(directory, &identity, founding, &none, &Stages::default())).await?;
    drop((law, lock));
    let mut files = vec![];
    for (name, credential) in issued {
        files.push(store(directory, &name, &credential)?);
    }
    let ca = credential::make_server(directory, &plan.server_names, world.now().seconds())?;
    Ok(Founded { instance: identity.instance, ca, issued: files })
}

/// Founds a dev directory, marked for ever.
///
/// # Errors
/// As [`init`].
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
    };
    let (law, lock) = Box::pin(root::found(directory, &identity, founding, config, stages)).await?;
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
