//! From a name to the documents of one image.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use seacow_spec::oci::image::{self as oci, Descriptor, Index, Manifest};
use seacow_spec::{Digest, Reference};
use sha2::{Digest as _, Sha256};

use crate::auth::Credentials;
use crate::blob::Blob;
use crate::endpoint::{Endpoint, Settings, Tries};
use crate::error::RegistryError;
use crate::session::{Ask, Failed, Scope, Session};
use crate::transport::whole;

/// A manifest or an index, as registries bound them too.
const MAX_MANIFEST: usize = 4 << 20;
/// A config blob.
const MAX_CONFIG: u64 = 8 << 20;
/// Indexes in indexes.
const MAX_NESTING: usize = 3;
/// The header with a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// The kind of machine that an image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// Go's name, `amd64`.
    pub architecture: String,
    /// `v8`; empty: any.
    pub variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// The documents of an image.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Digest of what the name stands for: the index, if there is one, else the manifest.
    pub digest: Digest,
    /// The image's own manifest.
    pub manifest: Manifest,
    /// Its bytes.
    pub manifest_bytes: Vec<u8>,
    /// What it is.
    pub media_type: String,
    /// The config blob.
    pub config: Vec<u8>,
}

/// A repository of a registry.
#[derive(Clone)]
pub struct Client {
    session: Arc<Session>,
    repository: String,
    scope: Scope,
}

/// A document by its digest.
struct Document {
    digest: Digest,
    media_type: String,
    bytes: Vec<u8>,
}

impl Client {
    /// Finds a name at its registry or a mirror, and reads the documents of the image for `platform`. The
    /// client is the one that found it.
    ///
    /// # Errors
    /// Those of the last place that was asked.
    pub async fn resolve(
        name: &Reference,
        platform: &Platform,
        settings: &Settings,
        credentials: &Credentials,
    ) -> Result<(Self, Resolved), RegistryError> {
        let mut tries = Tries::default();
        for way in settings.endpoints(name.domain()) {
            let client = Self::at(&way, name, settings, credentials)?;
            match client.image(name, platform).await {
                Ok(resolved) => return Ok((client, resolved)),
                Err(error) => tries.failed(&way, error)?,
            }
        }
        Err(tries.all_in_vain(name.domain()))
    }

    fn at(
        way: &Endpoint,
        name: &Reference,
        settings: &Settings,
        credentials: &Credentials,
    ) -> Result<Self, RegistryError> {
        let session = Arc::new(Session::new(way.clone(), settings, credentials)?);
        Ok(Self { session, repository: name.path().to_owned(), scope: Scope::pull(name.path()) })
    }

    /// What a name stands for, without the image.
    async fn described(&self, name: &Reference, ours: &Platform) -> Result<Described, RegistryError> {
        let document = self.document(name, &target(name), name.digest()).await?;
        let descriptor = Descriptor {
            media_type: document.media_type.clone(),
            digest: document.digest.clone(),
            size: document.bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
        };
        let platforms = match document.media_type.as_str() {
            oci::INDEX | oci::DOCKER_MANIFEST_LIST => {
                let index: Index = parse(&document)?;
                index.manifests.into_iter().filter_map(|entry| entry.platform).collect()
            }
            _ => {
                let manifest: Manifest = parse(&document)?;
                let config = self.config(&manifest.config).await?;
                // It may be no image, and then says nothing.
                let platform: Option<oci::Platform> = serde_json::from_slice(&config).ok();
                let ours = || oci::Platform {
                    architecture: ours.architecture.clone(),
                    os: ours.os.clone(),
                    variant: ours.variant.clone(),
                };
                vec![platform.filter(|platform| !platform.os.is_empty()).unwrap_or_else(ours)]
            }
        };
        Ok(Described { descriptor, platforms })
    }

    async fn image(&self, name: &Reference, platform: &Platform) -> Result<Resolved, RegistryError> {
        let mut document = self.document(name, &target(name), name.digest()).await?;
        let digest = document.digest.clone();
        for _ in 0..=MAX_NESTING {
            match document.media_type.as_str() {
                oci::MANIFEST | oci::DOCKER_MANIFEST => {
                    let manifest: Manifest = parse(&document)?;
                    let config = self.config(&manifest.config).await?;
                    let Document { media_type, bytes: manifest_bytes, .. } = document;
                    return Ok(Resolved { digest, manifest, manifest_bytes, media_type, config });
                }
                oci::INDEX | oci::DOCKER_MANIFEST_LIST => {
                    let index: Index = parse(&document)?;
                    let entry = choose(&index, platform)?;
                    document = self.document(name, entry.digest.as_str(), Some(&entry.digest)).await?;
                }
                other => {
                    let reason = format!("its media type {other:?} is that of no image");
                    return Err(malformed(&document, reason));
                }
            }
        }
        Err(malformed(&document, "indexes are nested too deeply".into()))
    }

    /// A blob that somebody reads.
    pub fn blob(&self, descriptor: &Descriptor) -> Blob {
        Blob::new(Arc::clone(&self.session), self.scope.clone(), &self.repository, descriptor)
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        if descriptor.size > MAX_CONFIG {
            let reason = format!("it has more than {MAX_CONFIG} bytes");
            return Err(RegistryError::Malformed { what: format!("config {}", descriptor.digest), reason });
        }
        self.blob(descriptor).whole().await
    }

    async fn document(
        &self,
        name: &Reference,
        target: &str,
        expected: Option<&Digest>,
    ) -> Result<Document, RegistryError> {
        let accept = [oci::MANIFEST, oci::DOCKER_MANIFEST, oci::INDEX, oci::DOCKER_MANIFEST_LIST].join(", ");
        let path = format!("{}/manifests/{target}", self.repository);
        let ask = Ask { accept: &accept, ..Ask::new(Method::GET, path, &self.scope) };
        let response = self.session.ask(&ask).await.map_err(|failed| told(name, failed))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let announced =
            header("content-type").map(|kind| kind.split(';').next().unwrap_or(kind).trim().to_owned());
        let promised = header(CONTENT_DIGEST).map(str::to_owned);
        let what = format!("manifest {target}");
        let bytes = whole(response, &what, MAX_MANIFEST).await?.to_vec();
        let digest = Digest::from_sha256(&Sha256::digest(&bytes).into());
        let promised: Option<Digest> = promised.map(|digest| digest.parse()).transpose()?;
        for expected in [expected, promised.as_ref()].into_iter().flatten() {
            if *expected != digest {
                return Err(RegistryError::WrongDigest { what, expected: expected.clone(), actual: digest });
            }
        }
        let media_type = kind_of(&bytes, announced);
        Ok(Document { digest, media_type, bytes })
    }
}

/// What a registry says of a name.
#[derive(Clone, Debug)]
pub struct Described {
    /// The document that it stands for.
    pub descriptor: Descriptor,
    /// Machines that there is an image for.
    pub platforms: Vec<oci::Platform>,
}

/// Asks what a name stands for, at its registry or a mirror.
///
/// # Errors
/// Those of the last place that was asked.
pub async fn describe(
    name: &Reference,
    ours: &Platform,
    settings: &Settings,
    credentials: &Credentials,
) -> Result<Described, RegistryError> {
    let mut tries = Tries::default();
    for way in settings.endpoints(name.domain()) {
        let client = Client::at(&way, name, settings, credentials)?;
        match client.described(name, ours).await {
            Ok(described) => return Ok(described),
            Err(error) => tries.failed(&way, error)?,
        }
    }
    Err(tries.all_in_vain(name.domain()))
}

/// Tag or digest of a name, as registries take it.
fn target(name: &Reference) -> String {
    match (name.digest(), name.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => seacow_spec::reference::DEFAULT_TAG.to_owned(),
    }
}

/// What a document says it is goes before what the registry says of it.
fn kind_of(bytes: &[u8], announced: Option<String>) -> String {
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Kind {
        media_type: String,
        manifests: Option<serde_json::Value>,
    }
    let kind: Kind = serde_json::from_slice(bytes).unwrap_or_default();
    if !kind.media_type.is_empty() {
        return kind.media_type;
    }
    let known = [oci::MANIFEST, oci::DOCKER_MANIFEST, oci::INDEX, oci::DOCKER_MANIFEST_LIST];
    match announced {
        Some(announced) if known.contains(&announced.as_str()) => announced,
        // OCI's documents need not say it.
        _ if kind.manifests.is_some() => oci::INDEX.to_owned(),
        Some(announced) if announced != "application/json" && announced != "text/plain" => announced,
        _ => oci::MANIFEST.to_owned(),
    }
}

/// The entry for a platform: the first of the very variant, else the first that fits. Attestations have the
/// platform `unknown`.
fn choose<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor, RegistryError> {
    let fits = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|platform| {
            platform.os == wanted.os
                && platform.architecture == wanted.architecture
                && (wanted.variant.is_empty()
                    || platform.variant.is_empty()
                    || platform.variant == wanted.variant)
        })
    };
    let exact = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|platform| platform.variant == wanted.variant)
    };
    let all = || index.manifests.iter().filter(fits);
    // An index of one that says nothing of platforms leaves no choice.
    let only = || match index.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    all()
        .find(exact)
        .or_else(|| all().next())
        .or_else(only)
        .ok_or_else(|| RegistryError::NoPlatform { platform: wanted.to_string() })
}

pub(crate) fn told(name: &Reference, failed: Failed) -> RegistryError {
    let familiar = name.clone().or_latest().familiar();
    match failed {
        Failed::Status { status: StatusCode::NOT_FOUND, said, .. } if !said.has("NAME_UNKNOWN") => {
            RegistryError::ManifestUnknown { name: familiar, reason: said.or("manifest unknown") }
        }
        Failed::Status { status, said, .. }
            if matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN)
                || (status == StatusCode::UNAUTHORIZED && !said.text.is_empty()) =>
        {
            let reason = if said.text.is_empty() { String::new() } else { format!(": {}", said.text) };
            RegistryError::PullDenied { name: name.familiar_name(), reason }
        }
        other => other.plain(),
    }
}

fn parse<T: serde::de::DeserializeOwned>(document: &Document) -> Result<T, RegistryError> {
    serde_json::from_slice(&document.bytes).map_err(|error| malformed(document, error.to_string()))
}

fn malformed(document: &Document, reason: String) -> RegistryError {
    RegistryError::Malformed { what: format!("manifest {}", document.digest), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str, &str)]) -> Index {
        let manifests: Vec<serde_json::Value> = platforms
            .iter()
            .enumerate()
            .map(|(n, (os, architecture, variant))| {
                serde_json::json!({
                    "mediaType": oci::MANIFEST, "digest": format!("sha256:{n:064x}"), "size": 1,
                    "platform": {"os": os, "architecture": architecture, "variant": variant},
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
    }

    fn chosen(index: &Index, os: &str, architecture: &str, variant: &str) -> Option<usize> {
        let wanted = Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() };
        let entry = choose(index, &wanted).ok()?;
        index.manifests.iter().position(|known| known == entry)
    }

    #[test]
    fn the_platform_decides() {
        let index = index(&[
            ("unknown", "unknown", ""),
            ("linux", "arm", "v6"),
            ("linux", "arm", "v7"),
            ("linux", "arm64", "v8"),
            ("linux", "amd64", ""),
            ("windows", "amd64", ""),
        ]);
        assert_eq!(chosen(&index, "linux", "amd64", ""), Some(4));
        assert_eq!(chosen(&index, "linux", "arm", "v7"), Some(2));
        assert_eq!(chosen(&index, "linux", "arm", ""), Some(1));
        assert_eq!(chosen(&index, "linux", "arm64", ""), Some(3));
        assert_eq!(chosen(&index, "linux", "s390x", ""), None);
    }

    #[test]
    fn documents_say_what_they_are() {
        let kind =
            |text: &str, announced: Option<&str>| kind_of(text.as_bytes(), announced.map(str::to_owned));
        assert_eq!(kind(r#"{"mediaType":"a/b"}"#, Some(oci::MANIFEST)), "a/b");
        assert_eq!(kind("{}", Some(oci::DOCKER_MANIFEST)), oci::DOCKER_MANIFEST);
        assert_eq!(kind(r#"{"manifests":[]}"#, None), oci::INDEX);
        assert_eq!(kind("{}", Some("text/html")), "text/html");
        assert_eq!(kind("{}", None), oci::MANIFEST);
    }
}
