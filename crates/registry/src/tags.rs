//! The tags of a repository.

use hyper::header::{HeaderMap, LINK};
use hyper::{Method, StatusCode};
use seacow_spec::Reference;
use serde::Deserialize;

use crate::auth::Credentials;
use crate::endpoint::{Settings, Tries};
use crate::error::RegistryError;
use crate::manifest::told;
use crate::session::{Ask, Failed, Scope, Session};
use crate::transport::whole;

/// One page of a list: a thousand tags of the greatest length are 130 kB.
const MAX_PAGE: usize = 4 << 20;
/// Pages, and with them tags, that are followed: a registry may go on for ever.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "seacow_spec::docker::null_default")]
    tags: Vec<String>,
}

/// All tags of a name's repository, in the registry's order.
///
/// # Errors
/// There is no such repository, or its registry cannot be asked.
pub async fn tags(
    name: &Reference,
    settings: &Settings,
    credentials: &Credentials,
) -> Result<Vec<String>, RegistryError> {
    let mut tries = Tries::default();
    // A mirror has what was asked of it, not all there is.
    for way in settings.endpoints(name.domain()).into_iter().filter(|way| !way.mirror) {
        let session = Session::new(way.clone(), settings, credentials)?;
        match all(&session, name).await {
            Ok(tags) => return Ok(tags),
            Err(error) => tries.failed(&way, error)?,
        }
    }
    Err(tries.all_in_vain(name.domain()))
}

async fn all(session: &Session, name: &Reference) -> Result<Vec<String>, RegistryError> {
    let scope = Scope::pull(name.path());
    let mut place = format!("{}/tags/list", name.path());
    let mut out = Vec::new();
    for _ in 0..MAX_PAGES {
        let ask = Ask::new(Method::GET, place, &scope);
        let response = session.ask(&ask).await.map_err(|failed| match failed {
            Failed::Status { status: StatusCode::NOT_FOUND, said, .. } => RegistryError::PullDenied {
                name: name.familiar_name(),
                reason: if said.text.is_empty() { String::new() } else { format!(": {}", said.text) },
            },
            other => told(name, other),
        })?;
        let next = next(response.headers()).map(|location| session.place(&ask, &location));
        let what = format!("the tags of {}", name.familiar_name());
        let body = whole(response, &what, MAX_PAGE).await?;
        let page: Page = serde_json::from_slice(&body)
            .map_err(|error| RegistryError::Malformed { what, reason: error.to_string() })?;
        out.extend(page.tags);
        match next {
            Some(url) => place = url,
            None => return Ok(out),
        }
    }
    Err(RegistryError::Malformed {
        what: format!("the tags of {}", name.familiar_name()),
        reason: format!("they have more than {MAX_PAGES} pages"),
    })
}

/// `</v2/x/tags/list?last=b&n=2>; rel="next"` (RFC 5988).
fn next(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = rest.split(';').any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            parameter == "rel=\"next\"" || parameter == "rel=next"
        });
        is_next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page() {
        for (header, expected) in [
            ("</v2/a/tags/list?last=b&n=2>; rel=\"next\"", Some("/v2/a/tags/list?last=b&n=2")),
            ("<x>; rel=\"prev\", <y>; a=b; rel=next", Some("y")),
            ("<x>; rel=\"prev\"", None),
            ("x", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, header.parse().unwrap());
            assert_eq!(next(&headers).as_deref(), expected, "{header}");
        }
    }
}
