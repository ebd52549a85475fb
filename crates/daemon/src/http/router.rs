//! From method and path to a route.
//!
//! A pattern is literal text with at most one `{name}`, which stands for one or more segments:
//! image names have slashes, and clients ask `GET /containers/localhost:5000/big:1/json` to learn
//! that there is no such container. The first route that matches wins.
//!
//! As dockerd's own router does it: a path with empty or dot segments is redirected to its clean
//! form before anything else, escapes are decoded before the path is looked at, and a known path
//! with another method is as unknown as any other.

use std::future::Future;
use std::pin::Pin;

use hyper::Method;

use super::call::Call;
use super::error::ApiError;
use super::query::percent_decode;
use super::reply::Reply;
use super::version::{ApiVersion, split};

/// What a route's handler returns.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    /// The method.
    pub(crate) method: Method,
    /// The pattern, without version.
    pub(crate) pattern: &'static str,
    /// Who answers.
    pub(crate) handler: fn(Call) -> Answer,
}

impl Route {
    const fn new(method: Method, pattern: &'static str, handler: fn(Call) -> Answer) -> Self {
        Self { method, pattern, handler }
    }

    /// A `GET`.
    pub(crate) const fn get(pattern: &'static str, handler: fn(Call) -> Answer) -> Self {
        Self::new(Method::GET, pattern, handler)
    }

    /// A `HEAD`.
    pub(crate) const fn head(pattern: &'static str, handler: fn(Call) -> Answer) -> Self {
        Self::new(Method::HEAD, pattern, handler)
    }

    /// A `POST`.
    pub(crate) const fn post(pattern: &'static str, handler: fn(Call) -> Answer) -> Self {
        Self::new(Method::POST, pattern, handler)
    }

    /// A `PUT`.
    pub(crate) const fn put(pattern: &'static str, handler: fn(Call) -> Answer) -> Self {
        Self::new(Method::PUT, pattern, handler)
    }

    /// A `DELETE`.
    pub(crate) const fn delete(pattern: &'static str, handler: fn(Call) -> Answer) -> Self {
        Self::new(Method::DELETE, pattern, handler)
    }

    fn matches<'p>(&self, method: &Method, path: &'p str) -> Option<&'p str> {
        if self.method != *method {
            return None;
        }
        let Some((prefix, suffix)) = self.pattern.split_once("{name}") else {
            return (path == self.pattern).then_some("");
        };
        path.strip_prefix(prefix)?.strip_suffix(suffix).filter(|name| !name.is_empty())
    }
}

/// Where a request leads.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// To the same path without empty and dot segments.
    Redirect(String),
    /// To a route.
    Route {
        /// The route.
        route: &'static Route,
        /// Which shape of the answer is asked for, or why none can be given.
        version: Result<ApiVersion, ApiError>,
        /// What `{name}` stood for.
        name: String,
    },
    /// `OPTIONS` of anything.
    Options,
    /// Nowhere.
    NotFound,
}

/// Finds the route of a request. `tables` are looked through in order.
pub(crate) fn resolve(
    tables: &[&'static [Route]],
    method: &Method,
    raw_path: &str,
    query: Option<&str>,
) -> Resolution {
    let Ok(path) = percent_decode(raw_path, false) else {
        return Resolution::NotFound;
    };
    let clean = clean(&path);
    if clean != path {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        return Resolution::Redirect(format!("{}{query}", escape(&clean)));
    }
    if *method == Method::OPTIONS {
        return Resolution::Options;
    }
    let (version, rest) = split(&path);
    for route in tables.iter().copied().flatten() {
        if let Some(name) = route.matches(method, rest) {
            let version = version.map_or(Ok(ApiVersion::NEWEST), ApiVersion::gate);
            return Resolution::Route { route, version, name: name.to_owned() };
        }
    }
    Resolution::NotFound
}

/// The path as Go's `path.Clean` makes it, with a closing slash kept.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

/// Escapes what may not stand in a path.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'@' | b'$' | b'&' | b'+' | b'=' | b','
            );
        if plain {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(_: Call) -> Answer {
        Box::pin(std::future::ready(Ok(Reply::ok())))
    }

    static TABLE: [Route; 5] = [
        Route::get("/containers/json", never),
        Route::get("/containers/{name}/json", never),
        Route::get("/images/{name}/json", never),
        Route::delete("/images/{name}", never),
        Route::head("/_ping", never),
    ];

    fn to(method: &Method, path: &str) -> Option<(&'static str, String)> {
        match resolve(&[&TABLE], method, path, None) {
            Resolution::Route { route, name, .. } => Some((route.pattern, name)),
            _ => None,
        }
    }

    #[test]
    fn names_may_have_slashes() {
        let get = |path| to(&Method::GET, path);
        assert_eq!(get("/v1.45/containers/json"), Some(("/containers/json", String::new())));
        assert_eq!(get("/containers/web/json"), Some(("/containers/{name}/json", "web".into())));
        assert_eq!(
            get("/v1.45/images/localhost:5000/big:1/json"),
            Some(("/images/{name}/json", "localhost:5000/big:1".into()))
        );
        assert_eq!(
            get("/v1.45/images/localhost:5000%2Fbig/json"),
            Some(("/images/{name}/json", "localhost:5000/big".into()))
        );
    }

    #[test]
    fn another_method_is_another_path() {
        assert_eq!(to(&Method::PUT, "/containers/json"), None);
        assert_eq!(to(&Method::GET, "/_ping"), None);
        assert_eq!(to(&Method::GET, "/nosuch"), None);
        assert_eq!(to(&Method::GET, "/v1.45/nosuch"), None);
    }

    #[test]
    fn unclean_paths_are_redirected() {
        for (path, query, location) in [
            ("/v1.45/containers//web/json", None, "/v1.45/containers/web/json"),
            ("/v1.45/containers/%2Fweb/json", Some("size=1"), "/v1.45/containers/web/json?size=1"),
            ("/v1.45/containers/../info", None, "/v1.45/info"),
            ("*", None, "/%2A"),
        ] {
            match resolve(&[&TABLE], &Method::GET, path, query) {
                Resolution::Redirect(to) => assert_eq!(to, location),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_version_is_checked_after_the_path() {
        match resolve(&[&TABLE], &Method::GET, "/v1.99/containers/json", None) {
            Resolution::Route { version, .. } => assert!(version.is_err()),
            other => panic!("{other:?}"),
        }
        assert!(matches!(resolve(&[&TABLE], &Method::GET, "/v1.99/nosuch", None), Resolution::NotFound));
        assert!(matches!(resolve(&[&TABLE], &Method::OPTIONS, "/anything", None), Resolution::Options));
    }
}
