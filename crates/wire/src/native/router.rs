//! From method and path to a row of the table.
//!
//! A tree of segments, made from the table once. Finding a route allocates nothing, and takes as many steps as the path has segments.

use super::route::{Access, Route};
use super::routes;
use core::fmt;
use holdfast_core::TenantId;
use std::sync::LazyLock;

/// The most parameters of a path.
const MAX_PARAMETERS: usize = 3;

/// A route with the parameters of the path that led to it.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'p> {
    /// The route.
    pub route: &'static Route,
    parameters: [&'p str; MAX_PARAMETERS],
}

impl<'p> Matched<'p> {
    /// The tenant whose request this is, even if it cannot be decoded: refusals are recorded in its log. The gateway itself where the
    /// path names none; `None` where nobody in particular is asked, and where the name cannot be a tenant's.
    pub fn tenant(&self) -> Option<TenantId> {
        let [tenant, ..] = self.parameters;
        match (self.route.access, tenant) {
            (Access::Open, _) => None,
            (Access::Authenticated, tenant) if self.route.path.starts_with("/v1/tenants/{") => {
                tenant.parse().ok()
            }
            (Access::Authenticated, _) => Some(TenantId::gateway()),
        }
    }

    /// The path's parameters in their order; empty text beyond the last.
    pub(super) fn parameters(&self) -> [&'p str; MAX_PARAMETERS] {
        self.parameters
    }
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    /// No such path.
    NotFound,
    /// No such method of this path.
    MethodNotAllowed {
        /// Those there are, as `Allow` lists them (RFC 9110 §10.2.1).
        allow: &'static str,
    },
    /// A `%` in the path: no name here needs one.
    PercentEncoded,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such endpoint"),
            Self::MethodNotAllowed { allow } => write!(f, "this endpoint takes {allow}"),
            Self::PercentEncoded => f.write_str("the path has a `%`"),
        }
    }
}

impl std::error::Error for RouteError {}

#[derive(Default)]
struct Node {
    /// By segment, sorted.
    literals: Vec<(&'static str, Node)>,
    parameter: Option<Box<Node>>,
    rest: Vec<&'static Route>,
    routes: Vec<&'static Route>,
    allow: String,
}

static ROOT: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for route in routes::all() {
        root.add(route, segments(route.path).unwrap_or_default());
    }
    root
});

impl Node {
    fn add(&mut self, route: &'static Route, path: &'static str) {
        let (segment, rest) = match path.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (path, None),
        };
        if segment.starts_with("{+") {
            self.rest.push(route);
            return;
        }
        let child = if segment.starts_with('{') {
            self.parameter.get_or_insert_default()
        } else {
            let place = match self.literals.binary_search_by_key(&segment, |(name, _)| name) {
                Ok(place) => place,
                Err(place) => {
                    self.literals.insert(place, (segment, Self::default()));
                    place
                }
            };
            match self.literals.get_mut(place) {
                Some((_, child)) => child,
                None => return,
            }
        };
        match rest {
            Some(rest) => child.add(route, rest),
            None => {
                child.routes.push(route);
                child.allow =
                    child.routes.iter().map(|route| route.method.name()).collect::<Vec<_>>().join(", ");
            }
        }
    }
}

/// A path without its leading slash.
fn segments(path: &str) -> Option<&str> {
    path.strip_prefix('/')
}

/// Finds the route of a request.
///
/// # Errors
/// See [`RouteError`]; a path with an empty segment is none of ours.
pub fn route<'p>(method: &str, path: &'p str) -> Result<Matched<'p>, RouteError> {
    if path.contains('%') {
        return Err(RouteError::PercentEncoded);
    }
    let mut parameters = [""; MAX_PARAMETERS];
    let mut slots = parameters.iter_mut();
    let mut keep = |text: &'p str| slots.next().map(|slot| *slot = text).ok_or(RouteError::NotFound);
    let mut node: &'static Node = &ROOT;
    let mut rest = segments(path);
    let (candidates, allow) = loop {
        let Some(text) = rest else { break (&node.routes, &*node.allow) };
        let (segment, after) = match text.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (text, None),
        };
        if segment.is_empty() {
            return Err(RouteError::NotFound);
        }
        if let Ok(place) = node.literals.binary_search_by_key(&segment, |(name, _)| name) {
            node = node.literals.get(place).map(|(_, child)| child).ok_or(RouteError::NotFound)?;
        } else if let Some(child) = &node.parameter {
            keep(segment)?;
            node = child;
        } else if !node.rest.is_empty() {
            keep(text)?;
            break (&node.rest, "GET");
        } else {
            return Err(RouteError::NotFound);
        }
        rest = after;
    };
    if candidates.is_empty() {
        return Err(RouteError::NotFound);
    }
    match candidates.iter().find(|route| route.method.name() == method) {
        Some(route) => Ok(Matched { route, parameters }),
        None => Err(RouteError::MethodNotAllowed { allow }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Method;

    /// The template with something in place of each parameter.
    fn instance(path: &str) -> String {
        path.replace("{tenant}", "acme")
            .replace("{version}", "7")
            .replace("{+file}", "tile/0/x001/234.p/5")
            .replace(['{', '}'], "")
    }

    #[test]
    fn every_row_is_found_by_its_own_path_and_by_nothing_else() {
        for row in routes::all() {
            let path = instance(row.path);
            let found = route(row.method.name(), &path).unwrap();
            assert!(core::ptr::eq(found.route, row), "{path}");
            assert!(matches!(route("PATCH", &path), Err(RouteError::MethodNotAllowed { .. })), "{path}");
            if !row.path.contains("{+") {
                assert_eq!(
                    route(row.method.name(), &format!("{path}/")).unwrap_err(),
                    RouteError::NotFound,
                    "{path}"
                );
                assert!(route(row.method.name(), &format!("{path}/x/y/z")).is_err(), "{path}");
            }
        }
    }

    #[test]
    fn a_rest_route_is_read_only() {
        // The router answers `Allow: GET` for them.
        assert!(routes::all().filter(|row| row.path.contains("{+")).all(|row| row.method == Method::Get));
    }

    #[test]
    fn parameters_stand_in_their_order() {
        let found = route("DELETE", "/v1/tenants/acme/callers/pay/tokens/T").unwrap();
        assert_eq!(found.parameters(), ["acme", "pay", "T"]);
        assert_eq!(
            route("GET", "/v1/tenants/acme/audit/tile/0/000").unwrap().parameters(),
            ["acme", "tile/0/000", ""]
        );
    }

    #[test]
    fn every_recorded_request_is_somebodys() {
        for row in routes::all() {
            let path = instance(row.path);
            let tenant = route(row.method.name(), &path).unwrap().tenant();
            let expected = match (row.access, row.path.contains("{tenant}")) {
                (Access::Open, _) => None,
                (Access::Authenticated, true) => Some("acme".parse().unwrap()),
                (Access::Authenticated, false) => Some(TenantId::gateway()),
            };
            assert_eq!(tenant, expected, "{path}");
        }
        assert_eq!(route("GET", "/v1/tenants/ACME/keys").unwrap().tenant(), None);
    }

    #[test]
    fn what_is_no_path_of_ours_is_refused() {
        for bad in [
            "",
            "/",
            "v1",
            "//",
            "/v1",
            "/v1/",
            "/v2/tenants",
            "/v1/tenants//keys",
            "/v1/tenants/a/nothing",
            "*",
            "/v1/tenants/a/audit",
        ] {
            assert_eq!(route("GET", bad).unwrap_err(), RouteError::NotFound, "{bad}");
        }
        assert_eq!(route("GET", "/v1/tenants/acme/keys/%61").unwrap_err(), RouteError::PercentEncoded);
        let allow = |method, path| match route(method, path) {
            Err(RouteError::MethodNotAllowed { allow }) => allow,
            other => panic!("{other:?}"),
        };
        assert_eq!(allow("DELETE", "/v1/tenants/acme/keys"), "GET, POST");
        assert_eq!(allow("get", "/v1/tenants/acme/keys/k/encrypt"), "POST");
    }
}
