//! What every command works with: the options, the environment, a runtime, and a client made of them.

use crate::args::Global;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Printer;
use holdfast_sdk::{Client, ClientBuilder, Tenant, TenantId};
use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Handle, Runtime};
use zeroize::Zeroizing;

/// Where Debian and most others keep the authorities that the machine trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where a gateway is, and the file with the authorities of its certificate.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    url: String,
    cacert: Option<PathBuf>,
}

impl Place {
    /// A client that is to be, of nobody yet; the file is read now.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Failure> {
        let builder = Client::builder(&self.url);
        match &self.cacert {
            Some(path) => Ok(builder.ca_pem(read(path)?)),
            None => by_machine(builder),
        }
    }
}

/// A command's surroundings.
pub(crate) struct App {
    global: Global,
    pub(crate) environment: Environment,
    runtime: Runtime,
    pub(crate) printer: Printer,
}

impl App {
    pub(crate) fn new(global: Global, environment: Environment) -> Result<Self, Failure> {
        let printer = Printer::new(global.json);
        let runtime = Builder::new_multi_thread().enable_all().build().map_err(|error| {
            Failure::new(Exit::Failure, "the process cannot start its threads").because(&error)
        })?;
        Ok(Self { global, environment, runtime, printer })
    }

    /// The runtime, for threads that are none of its own.
    pub(crate) fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// Runs a future to its end on this thread, its tasks on the others.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// A client of the gateway, as the caller that options or environment name.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_with(|builder| builder)
    }

    fn client_with(&self, adjust: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, Failure> {
        let Global { url: _, cacert: _, cert, cert_key, token_file, tenant: _, receipt, timeout: _, json: _ } =
            &self.global;
        let environment = &self.environment;
        let builder = self.nobody(self.url()?)?;
        // What was typed counts more than what the environment says; within one, the gateway looks at the token first.
        let credential = match (token_file, cert, &environment.token, &environment.cert) {
            (Some(file), _, _, _) => Credential::Token(token_in(file)?),
            (None, Some(cert), _, _) => self.certificate(cert, cert_key.as_ref())?,
            (None, None, Some(token), _) => Credential::Token(token.clone()),
            (None, None, None, Some(cert)) => self.certificate(cert, cert_key.as_ref())?,
            (None, None, None, None) => Credential::None,
        };
        let builder = match credential {
            Credential::Token(token) => builder.token(token.as_str()),
            Credential::Certificate { certificate, key } => builder.identity_pem(certificate, key.to_vec()),
            Credential::None => builder,
        };
        let builder = match receipt {
            Some(path) => builder.receipts(keep_receipts(path)?),
            None => builder,
        };
        Ok(adjust(builder).connect()?)
    }

    /// The gateway's address, as options or environment name it.
    pub(crate) fn url(&self) -> Result<&str, Failure> {
        self.global.url.as_deref().or(self.environment.url.as_deref()).ok_or_else(|| {
            Failure::usage("no gateway is named").remedy(
                "give its address with `--url` or HOLDFAST_URL; after `holdfast serve --dev` source the `dev.env` that it wrote",
            )
        })
    }

    /// The authority that the gateway is trusted by, where one is named: else it is one that the machine trusts.
    pub(crate) fn cacert(&self) -> Option<&Path> {
        self.global.cacert.as_deref().or(self.environment.cacert.as_deref())
    }

    /// Begins a client of this address that says nobody, and trusts whom options or environment name.
    pub(crate) fn nobody(&self, url: &str) -> Result<ClientBuilder, Failure> {
        let place = Place { url: url.to_owned(), cacert: self.cacert().map(Path::to_owned) };
        Ok(place.builder()?.timeout(Duration::from_secs(self.global.timeout)))
    }

    fn certificate(&self, cert: &Path, cert_key: Option<&PathBuf>) -> Result<Credential, Failure> {
        let key = cert_key.or(self.environment.key.as_ref()).ok_or_else(|| {
            Failure::usage(format!("the private key of `{}` is not named", cert.display()))
                .remedy("give it with `--cert-key` or HOLDFAST_KEY")
        })?;
        Ok(Credential::Certificate { certificate: read(cert)?, key: Zeroizing::new(read(key)?) })
    }

    /// Where the gateway is, and whom to trust.
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        Ok(Place { url: self.url()?.to_owned(), cacert: self.cacert().map(Path::to_owned) })
    }

    /// The tenant that options or environment name, if they name one.
    pub(crate) fn tenant_name(&self) -> Result<Option<TenantId>, Failure> {
        let name = self.global.tenant.as_ref().or(self.environment.tenant.as_ref());
        Ok(name.map(|name| name.parse()).transpose()?)
    }

    /// The tenant that this command is about.
    pub(crate) fn tenant(&self) -> Result<Tenant, Failure> {
        self.tenant_with(|builder| builder)
    }

    /// The same, by a client that is set up further.
    pub(crate) fn tenant_with(
        &self,
        adjust: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Tenant, Failure> {
        let tenant = self.tenant_name()?.ok_or_else(|| {
            Failure::usage("no tenant is named").remedy("name it with `--tenant` or HOLDFAST_TENANT")
        })?;
        Ok(self.client_with(adjust)?.tenant(tenant))
    }

    /// When the files were written last that say as whom, and whom to trust: as long as that is the same, so are they.
    pub(crate) fn credential_times(&self) -> Vec<Option<SystemTime>> {
        let (global, environment) = (&self.global, &self.environment);
        let files = [
            global.cacert.as_ref().or(environment.cacert.as_ref()),
            global.cert.as_ref().or(environment.cert.as_ref()),
            global.cert_key.as_ref().or(environment.key.as_ref()),
            global.token_file.as_ref(),
        ];
        files.into_iter().map(|file| std::fs::metadata(file?).and_then(|meta| meta.modified()).ok()).collect()
    }
}

/// Appends receipts to a file, which is opened before anything is asked for.
fn keep_receipts(path: &Path) -> Result<impl Fn(&str) + Send + Sync + 'static, Failure> {
    let failed = |error: &std::io::Error| Failure::file("write", path, error);
    let file = File::options().create(true).append(true).open(path).map_err(|error| failed(&error))?;
    let shown = path.display().to_string();
    Ok(move |receipt: &str| {
        // One write for each, so that those of several calls at once do not mix.
        if let Err(error) = (&file).write_all(receipt.as_bytes()) {
            crate::output::note(&format!("WARNING: a receipt could not be written to `{shown}`: {error}"));
        }
    })
}

/// The same that trusts whom the machine trusts.
pub(crate) fn by_machine(builder: ClientBuilder) -> Result<ClientBuilder, Failure> {
    let authorities = Path::new(SYSTEM_AUTHORITIES);
    match authorities.exists() {
        true => Ok(builder.ca_pem(read(authorities)?)),
        false => Ok(builder),
    }
}

enum Credential {
    Token(Zeroizing<String>),
    Certificate { certificate: Vec<u8>, key: Zeroizing<Vec<u8>> },
    None,
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::file("read", path, &error).ending(Exit::Usage))
}

fn token_in(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::file("read", path, &error).ending(Exit::Usage))?;
    Ok(Zeroizing::new(text))
}
