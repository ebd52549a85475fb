//! Where plug-ins are, by Docker's rules.
//!
//! `NAME.sock` or `NAME/NAME.sock` in `/run/docker/plugins`, then `NAME.spec`, `NAME.json`,
//! `NAME/NAME.spec`, `NAME/NAME.json` in `/etc/docker/plugins` and `/usr/lib/docker/plugins`. Before all of them
//! comes `plugins/` in the engine's own exec root, which another engine on this host does not see.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::PluginError;

const SOCKETS: &str = "/run/docker/plugins";
const SPECIFICATIONS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];
/// A specification is an address, or an address and names of files.
const MAX_SPECIFICATION: u64 = 64 << 10;

/// How a plug-in is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket's path.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// Directories that are looked into, in this order.
#[derive(Debug)]
pub(super) struct Places {
    sockets: Vec<PathBuf>,
    specifications: Vec<PathBuf>,
}

impl Places {
    pub(super) fn of_host(exec_root: &Path) -> Self {
        let own = exec_root.join("plugins");
        Self {
            sockets: vec![own.clone(), SOCKETS.into()],
            specifications: std::iter::once(own).chain(SPECIFICATIONS.map(PathBuf::from)).collect(),
        }
    }

    /// Where the plug-in of a name listens.
    ///
    /// # Errors
    /// There is none, or its specification cannot be used.
    pub(super) fn find(&self, name: &str) -> Result<Address, PluginError> {
        // A name becomes a path; those of managed plug-ins (`user/name:tag`) are none of ours.
        if !is_name(name) {
            return Err(PluginError::NotFound(name.to_owned()));
        }
        for dir in &self.sockets {
            let paths = [dir.join(format!("{name}.sock")), dir.join(name).join(format!("{name}.sock"))];
            if let Some(path) = paths.into_iter().find(|path| is_socket(path)) {
                return Ok(Address::Unix(path));
            }
        }
        for dir in &self.specifications {
            for (dir, ending) in [
                (dir.clone(), "spec"),
                (dir.clone(), "json"),
                (dir.join(name), "spec"),
                (dir.join(name), "json"),
            ] {
                let path = dir.join(format!("{name}.{ending}"));
                if let Some(address) = specified(name, &path, ending == "json")? {
                    return Ok(address);
                }
            }
        }
        Err(PluginError::NotFound(name.to_owned()))
    }

    /// Names of all that are there, by their files alone.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (dirs, endings) in
            [(&self.sockets, [".sock"].as_slice()), (&self.specifications, [".spec", ".json"].as_slice())]
        {
            for dir in dirs {
                names.extend(in_directory(dir, endings));
            }
        }
        names
    }
}

fn in_directory(dir: &Path, endings: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = files.filter_map(|file| {
        let stem = endings.iter().find_map(|ending| file.strip_suffix(ending));
        // `NAME/NAME.sock` and its like.
        let below = || {
            let has = |ending: &&str| dir.join(&file).join(format!("{file}{ending}")).exists();
            endings.iter().any(has).then(|| file.clone())
        };
        stem.map(str::to_owned).or_else(below)
    });
    names.filter(|name| is_name(name)).collect()
}

/// Whether files of this name are in a directory that is looked into, and nowhere else.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// What `.json` has.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    addr: String,
    #[serde(default, rename = "TLSConfig")]
    tls: Option<serde_json::Value>,
}

/// The address in a specification file; `None` if there is no such file.
fn specified(name: &str, path: &Path, json: bool) -> Result<Option<Address>, PluginError> {
    let wrong = |reason: String| PluginError::Specification {
        name: name.to_owned(),
        path: path.display().to_string(),
        reason,
    };
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(MAX_SPECIFICATION).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    }
    let mut address = text.trim().to_owned();
    if json {
        let document: Document = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if document.tls.is_some_and(|tls| !tls.is_null()) || document.addr.starts_with("https://") {
            return Err(PluginError::Tls { name: name.to_owned(), path: path.display().to_string() });
        }
        address = document.addr;
    }
    parse(&address).map(Some).map_err(wrong)
}

fn parse(address: &str) -> Result<Address, String> {
    match address.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(PathBuf::from(path))),
        Some(("unix", path)) => Err(format!("the socket's path {path:?} is not absolute")),
        Some(("tcp" | "http", rest)) => {
            let host = rest.trim_end_matches('/');
            let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.map(|_| Address::Tcp(host.to_owned())).ok_or_else(|| format!("{address:?} names no port"))
        }
        Some((other, _)) => Err(format!("unknown protocol {other:?}: unix://, tcp:// or http://")),
        None => Err(format!("{address:?} is no address: unix://PATH or tcp://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(parse("unix:///run/x.sock"), Ok(Address::Unix("/run/x.sock".into())));
        assert_eq!(parse("tcp://localhost:8080"), Ok(Address::Tcp("localhost:8080".into())));
        assert_eq!(parse("http://[::1]:80/"), Ok(Address::Tcp("[::1]:80".into())));
        for bad in ["", "x", "unix://x", "tcp://host", "ftp://x:1", "tcp://x:99999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_in_the_order_of_docker() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            sockets: vec![dir.path().join("run")],
            specifications: vec![dir.path().join("etc"), dir.path().join("usr")],
        };
        for place in ["run/two", "etc", "usr/four"] {
            std::fs::create_dir_all(dir.path().join(place)).unwrap();
        }
        let _one = std::os::unix::net::UnixListener::bind(dir.path().join("run/one.sock")).unwrap();
        let _two = std::os::unix::net::UnixListener::bind(dir.path().join("run/two/two.sock")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
        write("run/three.sock", "no socket");
        write("etc/one.spec", "tcp://nowhere:1");
        write("etc/three.spec", "tcp://localhost:3\n");
        write("usr/four/four.json", r#"{"Name":"x","Addr":"tcp://localhost:4"}"#);
        write("etc/five.json", r#"{"Addr":"tcp://localhost:5","TLSConfig":{"InsecureSkipVerify":true}}"#);
        write("etc/six.json", "{");
        assert_eq!(places.find("one").unwrap(), Address::Unix(dir.path().join("run/one.sock")));
        assert_eq!(places.find("two").unwrap(), Address::Unix(dir.path().join("run/two/two.sock")));
        assert_eq!(places.find("three").unwrap(), Address::Tcp("localhost:3".into()));
        assert_eq!(places.find("four").unwrap(), Address::Tcp("localhost:4".into()));
        assert!(matches!(places.find("five"), Err(PluginError::Tls { .. })));
        assert!(matches!(places.find("six"), Err(PluginError::Specification { .. })));
        for none in ["seven", "../etc/one", "", ".", "a/b"] {
            assert!(matches!(places.find(none), Err(PluginError::NotFound(_))), "{none}");
        }
        let names: Vec<String> = places.names().into_iter().collect();
        assert_eq!(names, ["five", "four", "one", "six", "three", "two"]);
    }
}
