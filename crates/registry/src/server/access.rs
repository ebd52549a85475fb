//! Who may: names and passwords in a file as `htpasswd -B` makes it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::ServerError;

/// Passwords that are tried at a time: each try is some 70 ms of a processor, by intention.
const AT_ONCE: usize = 2;
/// Passwords that were right and are known again without a try.
const MAX_KNOWN: usize = 1024;
/// Tried where there is no such name, so that nobody learns of that by the time it takes: of a password that is
/// nowhere kept.
const NOBODY: &str = "$2b$10$Zm9yIG5vYm9keSBhdCBhbOAAZoTNFw7VE3xjFWckJ7BrQP.kppiJa";

/// The file, as it was read last.
pub(super) struct Access {
    path: PathBuf,
    state: Mutex<State>,
    trying: Semaphore,
    /// Makes what is kept of right passwords worthless to others.
    salt: [u8; 32],
}

#[derive(Default)]
struct State {
    stamp: Option<(SystemTime, u64)>,
    users: HashMap<String, String>,
    known: HashSet<[u8; 32]>,
}

impl Access {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or has something else in it than names and bcrypt hashes.
    pub(super) fn open(path: &Path) -> Result<Self, ServerError> {
        let random = seacow_spec::id::random_hex().map_err(|source| ServerError::Io {
            step: "draw random numbers",
            path: path.into(),
            source,
        })?;
        let salt = Sha256::digest(random.as_bytes()).into();
        let this =
            Self { path: path.to_owned(), state: Mutex::default(), trying: Semaphore::new(AT_ONCE), salt };
        this.refresh()?;
        Ok(this)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again if it has changed.
    fn refresh(&self) -> Result<(), ServerError> {
        let failed =
            |source| ServerError::Io { step: "read the passwords in", path: self.path.clone(), source };
        let metadata = std::fs::metadata(&self.path).map_err(failed)?;
        let stamp = Some((metadata.modified().map_err(failed)?, metadata.len()));
        if self.state().stamp == stamp {
            return Ok(());
        }
        let text = std::fs::read_to_string(&self.path).map_err(failed)?;
        let users = parse(&text).map_err(|(line, reason)| ServerError::Passwords {
            path: self.path.clone(),
            line,
            reason,
        })?;
        *self.state() = State { stamp, users, known: HashSet::new() };
        Ok(())
    }

    /// Whether an `Authorization` header opens the door.
    pub(super) async fn allows(&self, header: Option<&str>) -> bool {
        let Some((user, password)) = header.and_then(basic) else { return false };
        if let Err(error) = self.refresh() {
            // As it was before: a file that is being edited locks nobody out, and lets nobody in.
            tracing::warn!(%error, "the registry's passwords");
        }
        let mut hash = Sha256::new_with_prefix(self.salt);
        hash.update(user.as_bytes());
        hash.update([0]);
        hash.update(password.as_bytes());
        let mark: [u8; 32] = hash.finalize().into();
        let (stamp, expected, known) = {
            let state = self.state();
            (state.stamp, state.users.get(&user).cloned(), state.known.contains(&mark))
        };
        if known {
            return true;
        }
        let Ok(_permit) = self.trying.acquire().await else { return false };
        let exists = expected.is_some();
        let expected = expected.unwrap_or_else(|| NOBODY.to_owned());
        let tried = tokio::task::spawn_blocking(move || bcrypt::verify(&password, &expected));
        let right = tried.await.is_ok_and(|outcome| outcome.unwrap_or(false)) && exists;
        let mut state = self.state();
        // The file may have changed meanwhile.
        if right && state.stamp == stamp {
            if state.known.len() >= MAX_KNOWN {
                state.known.clear();
            }
            state.known.insert(mark);
        }
        right
    }
}

fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, pair) = header.trim().split_once(' ')?;
    let pair = STANDARD.decode(pair.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let pair = String::from_utf8(pair).ok()?;
    pair.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// `name:$2y$…`, a line each; empty lines and comments are passed over.
fn parse(text: &str) -> Result<HashMap<String, String>, (usize, &'static str)> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line.split_once(':').ok_or((number + 1, "it is no name and hash"))?;
        let is_bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|kind| hash.starts_with(kind));
        if !is_bcrypt || hash.len() != 60 {
            return Err((number + 1, "its hash is not one of bcrypt (htpasswd -B)"));
        }
        users.insert(name.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_passwords() {
        let hash = "$2y$05$".to_owned() + &"a".repeat(53);
        let found = parse(&format!("# who\n\nann:{hash}\nbob:{hash}\n")).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(parse("ann\n").unwrap_err().0, 1);
        assert_eq!(parse("\nann:{SHA}x\n").unwrap_err().0, 2);
        assert_eq!(NOBODY.len(), 60);
        // It is tried to its end, and is nobody's.
        assert!(!bcrypt::verify("x", NOBODY).unwrap());
    }

    #[test]
    fn headers() {
        let coded = STANDARD.encode("ann:p:w");
        assert_eq!(basic(&format!("Basic {coded}")).unwrap(), ("ann".into(), "p:w".into()));
        assert_eq!(basic(&format!("Bearer {coded}")), None);
        assert_eq!(basic("Basic !"), None);
    }
}
