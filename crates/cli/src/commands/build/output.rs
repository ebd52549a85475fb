//! `--output`: what becomes of the image besides being in the engine.

use std::path::{Path, PathBuf};

use crate::archive::extract;
use crate::client::{Client, escape};
use crate::commands::save;
use crate::failure::{Failure, Outcome};

/// One destination.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The image stays in the engine, where it is anyway.
    Image,
    /// Its files, in a directory.
    Directory(PathBuf),
    /// Its files as a tar; `-` is standard output.
    Tar(String),
    /// The image as an archive, for `load`.
    Archive(String),
}

impl Output {
    pub(super) fn parse(texts: &[String]) -> Result<Vec<Self>, Failure> {
        texts.iter().map(|text| Self::one(text)).collect()
    }

    fn one(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::Refused(format!("invalid --output {text:?}: {why}"));
        if text == "-" {
            return Ok(Self::Tar("-".into()));
        }
        if !text.contains('=') {
            return Ok(Self::Directory(text.into()));
        }
        let (mut kind, mut dest) = (None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("dest", value)) => dest = Some(value.to_owned()),
                _ => return Err(bad(&format!("NotImplemented: the field {field:?}"))),
            }
        }
        match (kind, dest) {
            (Some("local"), Some(dest)) => Ok(Self::Directory(dest.into())),
            (Some("tar"), dest) => Ok(Self::Tar(dest.unwrap_or_else(|| "-".into()))),
            (Some("docker" | "oci"), Some(dest)) => Ok(Self::Archive(dest)),
            (Some("image" | "docker"), None) => Ok(Self::Image),
            (Some("local" | "oci"), None) => Err(bad("it has no dest")),
            (Some(other), _) => Err(bad(&format!(
                "NotImplemented: the type {other}; there are local, tar, docker, oci and image"
            ))),
            (None, _) => Err(bad("it has no type")),
        }
    }

    pub(super) fn write(&self, client: &Client, image: &str) -> Outcome {
        let name = escape(image);
        match self {
            Self::Image => Ok(()),
            Self::Directory(dir) => directory(client, &name, dir),
            Self::Tar(dest) => {
                let mut response = client.get(format!("/images/{name}/files")).send()?;
                save::write_out(&mut response.body, if dest == "-" { "" } else { dest })
            }
            Self::Archive(dest) => {
                let mut response = client.get("/images/get").query("names", image).send()?;
                save::write_out(&mut response.body, if dest == "-" { "" } else { dest })
            }
        }
    }
}

fn directory(client: &Client, name: &str, dir: &Path) -> Outcome {
    std::fs::create_dir_all(dir)?;
    let mut response = client.get(format!("/images/{name}/files")).send()?;
    let done = extract::extract(&mut response.body, dir, None);
    done.map(drop).map_err(|error| Failure::Refused(format!("write {}: {error}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, want) in [
            ("out", Output::Directory("out".into())),
            ("-", Output::Tar("-".into())),
            ("type=local,dest=d", Output::Directory("d".into())),
            ("type=tar,dest=x.tar", Output::Tar("x.tar".into())),
            ("type=tar", Output::Tar("-".into())),
            ("type=oci,dest=x", Output::Archive("x".into())),
            ("type=docker", Output::Image),
        ] {
            assert_eq!(Output::one(text).unwrap(), want, "{text}");
        }
        for text in ["type=registry,dest=x", "type=local", "dest=x", "type=image,push=true"] {
            assert!(Output::one(text).is_err(), "{text}");
        }
    }
}
