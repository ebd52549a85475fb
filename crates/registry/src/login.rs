//! Whether a registry takes a name and a password.

use hyper::Method;

use crate::auth::Credentials;
use crate::endpoint::{Settings, Tries};
use crate::error::RegistryError;
use crate::session::{Ask, Scope, Session};

/// Hosts by which clients name Docker Hub when they log in.
const HUB: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "docker.io"];

/// Shows credentials to a registry, which clients name as they like (`host`, `https://host/v1/`). Gives the token
/// that stands for the password from now on, if the registry hands out such.
///
/// # Errors
/// It does not take them, or cannot be reached.
pub async fn login(
    server: &str,
    settings: &Settings,
    credentials: &Credentials,
) -> Result<Option<String>, RegistryError> {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    let domain = if host.is_empty() || HUB.contains(&host) { HUB[2] } else { host };
    let mut tries = Tries::default();
    for way in settings.endpoints(domain).into_iter().filter(|way| !way.mirror) {
        let session = Session::new(way.clone(), settings, credentials)?.for_long();
        match session.ask(&Ask::new(Method::GET, "", &Scope::none())).await {
            Ok(_) => return Ok(session.identity()),
            Err(failed) => tries.failed(&way, failed.plain())?,
        }
    }
    Err(tries.all_in_vain(domain))
}
