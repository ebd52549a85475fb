//! What is looked at in a manifest before it is taken, and what is told of it later.

use std::collections::BTreeMap;

use seacow_spec::Digest;
use seacow_spec::oci::image as oci;
use serde::{Deserialize, Serialize};

use super::path::Version;
use super::refusal::Refusal;
use super::shelf::{NewManifest, Shelf};

/// Most bytes of a manifest, as clients bound them.
pub(super) const MAX_MANIFEST: usize = 4 << 20;

/// The parts of any manifest that matter here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Part>,
    layers: Option<Vec<Part>>,
    manifests: Option<Vec<Part>>,
    subject: Option<Part>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    media_type: String,
    digest: String,
    /// Where else it is to be had: such layers are nobody's to distribute.
    #[serde(default)]
    urls: Vec<String>,
}

/// What a manifest lists.
#[derive(Default)]
pub(super) struct Listed {
    /// Config and layers.
    pub(super) blobs: Vec<Digest>,
    /// Of an index.
    pub(super) manifests: Vec<Digest>,
    /// What it tells something of.
    pub(super) subject: Option<Digest>,
}

impl Listed {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        Document::read(bytes)?.listed()
    }
}

impl Document {
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::manifest("a manifest is a JSON object"));
        }
        serde_json::from_slice(bytes).map_err(|error| Refusal::manifest(error.to_string()))
    }

    fn listed(&self) -> Result<Listed, Refusal> {
        let parse = |part: &Part| super::path::digest(&part.digest);
        let layers = self.layers.iter().flatten().filter(|layer| layer.urls.is_empty());
        Ok(Listed {
            blobs: self.config.iter().chain(layers).map(parse).collect::<Result<_, _>>()?,
            manifests: self.manifests.iter().flatten().map(parse).collect::<Result<_, _>>()?,
            subject: self.subject.as_ref().map(parse).transpose()?,
        })
    }

    /// Whether it is what it says, or what is said of it.
    fn check(&self, kind: &str) -> Result<(), Refusal> {
        if let Some(own) = self.media_type.as_deref().filter(|own| !own.is_empty() && *own != kind) {
            return Err(Refusal::manifest(format!("it says that it is {own}, not {kind}")));
        }
        if self.schema_version != 2 {
            return Err(Refusal::manifest(format!(
                "schema version {} is not supported",
                self.schema_version
            )));
        }
        let fits = match kind {
            oci::MANIFEST | oci::DOCKER_MANIFEST => self.config.is_some() && self.layers.is_some(),
            oci::INDEX | oci::DOCKER_MANIFEST_LIST => self.manifests.is_some() && self.config.is_none(),
            other => return Err(Refusal::manifest(format!("{other} is no manifest that is known here"))),
        };
        if fits { Ok(()) } else { Err(Refusal::manifest(format!("it is not what {kind} has to be"))) }
    }
}

/// A manifest that was taken.
pub(super) struct Taken {
    pub(super) digest: Digest,
    pub(super) subject: Option<Digest>,
}

/// Takes a manifest.
pub(super) fn put(
    shelf: &Shelf,
    name: &str,
    version: &Version,
    kind: &str,
    bytes: &[u8],
) -> Result<Taken, Refusal> {
    let document = Document::read(bytes)?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // Clients that do not say trust in what it says itself.
    let own = document.media_type.clone().unwrap_or_default();
    let kind = if kind.is_empty() { own.as_str() } else { kind };
    document.check(kind)?;
    let digest = digest_of(bytes);
    if let Version::Digest(expected) = version
        && *expected != digest
    {
        let message = format!("provided digest did not match uploaded content: it is {digest}");
        return Err(Refusal::digest(message));
    }
    let listed = document.listed()?;
    if let Some(missing) = listed.blobs.iter().find(|blob| !shelf.has_blob(name, blob)) {
        return Err(Refusal::manifest_blob_unknown(missing));
    }
    for child in &listed.manifests {
        if shelf.manifest(name, child)?.is_none() {
            return Err(Refusal::manifest_blob_unknown(child));
        }
    }
    let tag = match version {
        Version::Tag(tag) => Some(tag.as_str()),
        Version::Digest(_) => None,
    };
    let subject = listed.subject;
    shelf
        .put_manifest(name, &NewManifest { digest: &digest, kind, bytes, tag, subject: subject.as_ref() })?;
    Ok(Taken { digest, subject })
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    use sha2::{Digest as _, Sha256};
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// One that tells something of another.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    media_type: String,
    digest: Digest,
    size: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    artifact_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

/// The index of what tells something of `subject`; of one kind, if that is asked for.
pub(super) fn referrers(
    shelf: &Shelf,
    name: &str,
    subject: &Digest,
    wanted: Option<&str>,
) -> Result<Vec<u8>, Refusal> {
    let mut all = Vec::new();
    for digest in shelf.referrers(name, subject)? {
        let Some((media_type, bytes)) = shelf.manifest(name, &digest)? else { continue };
        let document = Document::read(&bytes)?;
        let config = document.config.map(|config| config.media_type).unwrap_or_default();
        let artifact_type = document.artifact_type.filter(|kind| !kind.is_empty()).unwrap_or(config);
        if wanted.is_none_or(|wanted| wanted == artifact_type) {
            let (size, annotations) = (bytes.len(), document.annotations);
            all.push(Referrer { media_type, digest, size, artifact_type, annotations });
        }
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": oci::INDEX, "manifests": all});
    Ok(index.to_string().into_bytes())
}
