//! Packed layers that are kept, and manifests: who has them, when they go, what a next try finds.

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use seacow_spec::Digest;
use seacow_spec::oci::image::ImageConfig;
use seacow_store::image::NewManifest;
use seacow_store::{digest, image::RemoveOptions};
use serde_json::json;

use crate::common::TestStore;

fn keep(store: &TestStore, bytes: &[u8]) -> Digest {
    let digest = digest(bytes);
    let part = store.blobs().begin(&digest, bytes.len() as u64).unwrap().unwrap();
    part.append(bytes).unwrap();
    part.finish(&digest).unwrap();
    digest
}

fn content(store: &TestStore, digest: &Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    store.blobs().open(digest)?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

/// An image without layers, whose manifest lists blobs all the same: of a config with as many diff ids.
fn image(store: &TestStore, comment: &str, blobs: &[&Digest]) -> (Digest, NewManifest) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(comment.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "file", comment.as_bytes()).unwrap();
    let config = ImageConfig { os: "linux".into(), comment: comment.into(), ..ImageConfig::default() };
    let image = store.images().import(&tar.into_inner().unwrap()[..], config).unwrap();
    let layers: Vec<_> =
        blobs.iter().map(|digest| json!({"mediaType": "x", "digest": digest, "size": 1})).collect();
    let raw = json!({
        "schemaVersion": 2, "config": {"mediaType": "c", "digest": image.id, "size": 1}, "layers": layers,
    });
    let seen = blobs.iter().map(|blob| (*blob).clone()).collect();
    let manifest = NewManifest { raw: raw.to_string().into_bytes(), media_type: "m".into(), seen };
    (image.id, manifest)
}

#[test]
fn a_part_is_gone_on_with_by_one_at_a_time() {
    let mut store = TestStore::new();
    let (bytes, id) = (b"0123456789", digest(b"0123456789"));
    let part = store.blobs().begin(&id, 10).unwrap().unwrap();
    part.append(&bytes[..4]).unwrap();
    assert!(store.blobs().begin(&id, 10).unwrap().is_none(), "two at once");
    assert!(content(&store, &id).is_none());
    drop(part);
    // Also by a store that was opened since.
    store.open();
    let part = store.blobs().begin(&id, 10).unwrap().unwrap();
    assert_eq!(part.len().unwrap(), 4);
    part.append(&bytes[4..]).unwrap();
    part.finish(&id).unwrap();
    assert_eq!(content(&store, &id).unwrap(), bytes);
    // What is longer than it may be is something else; what is thrown away is gone.
    let other = digest(b"other");
    store.blobs().begin(&other, 5).unwrap().unwrap().append(b"too long").unwrap();
    let part = store.blobs().begin(&other, 5).unwrap().unwrap();
    assert!(part.is_empty().unwrap());
    part.discard();
    assert_eq!(store.names("blobs"), [id.hex()]);
    // Nobody begins what there is no room for.
    assert!(store.blobs().begin(&other, u64::MAX / 8).unwrap().is_none());
}

#[test]
fn blobs_go_with_the_last_manifest_that_lists_them() {
    let mut store = TestStore::new();
    let (shared, own) = (keep(&store, b"shared"), keep(&store, b"own"));
    let (one, manifest) = image(&store, "one", &[&shared]);
    let first = store.images().keep_manifest(&one, manifest.clone()).unwrap();
    assert_eq!(store.images().keep_manifest(&one, manifest.clone()).unwrap(), first);
    let (two, other) = image(&store, "two", &[&shared]);
    store.images().keep_manifest(&two, other).unwrap();
    let (_, again) = image(&store, "two", &[&own]);
    store.images().keep_manifest(&two, again).unwrap();
    store.open();
    let kept = store.images().manifests(&one);
    assert_eq!((kept.len(), &kept[0].raw, &kept[0].digest), (1, &manifest.raw, &first));
    assert_eq!(store.images().manifests(&two).len(), 2);
    let diff_id = store.images().get(&two).unwrap().config.rootfs.diff_ids[0].clone();
    let mut packed: Vec<_> = store.images().packed(&diff_id).into_iter().map(|layer| layer.digest).collect();
    packed.sort();
    let mut expected = [shared.clone(), own.clone()];
    expected.sort();
    assert_eq!(packed, expected);
    store.images().remove(two.as_str(), RemoveOptions::default(), &|_| Vec::new()).unwrap();
    assert!(content(&store, &shared).is_some() && content(&store, &own).is_none());
    assert!(store.images().manifests(&two).is_empty());
    store.images().remove(one.as_str(), RemoveOptions::default(), &|_| Vec::new()).unwrap();
    assert!(content(&store, &shared).is_none());
}

#[test]
fn what_a_manifest_only_says_is_good_for_its_image_alone() {
    let store = TestStore::new();
    let blob = digest(b"somebody's");
    let (id, manifest) = image(&store, "one", &[&blob]);
    let said = NewManifest { seen: Vec::new(), ..manifest.clone() };
    let diff_id = store.images().get(&id).unwrap().config.rootfs.diff_ids[0].clone();
    store.images().keep_manifest(&id, said.clone()).unwrap();
    assert_eq!(store.images().manifests(&id).len(), 1);
    assert!(store.images().packed(&diff_id).is_empty());
    // Seen once it is known, also when it is only said again.
    store.images().keep_manifest(&id, manifest).unwrap();
    store.images().keep_manifest(&id, said).unwrap();
    assert_eq!(store.images().packed(&diff_id).len(), 1);
}

#[test]
fn a_manifest_is_one_of_its_image() {
    let store = TestStore::new();
    let blob = digest(b"x");
    let (id, manifest) = image(&store, "one", &[&blob, &blob]);
    let refused = store.images().keep_manifest(&id, manifest).unwrap_err().to_string();
    assert_eq!(refused, "invalid manifest: it lists 2 layers, the image has 1");
    let nothing = NewManifest { raw: b"{".to_vec(), media_type: "m".into(), seen: Vec::new() };
    assert!(store.images().keep_manifest(&id, nothing.clone()).is_err());
    assert!(
        store.images().keep_manifest(&blob, nothing).unwrap_err().to_string().starts_with("No such image")
    );
}

#[test]
fn what_nobody_claims_goes_after_a_day_and_the_oldest_first_when_room_is_wanted() {
    let mut store = TestStore::new();
    let (claimed, young, old) = (keep(&store, b"claimed"), keep(&store, b"young"), keep(&store, b"old"));
    let (id, manifest) = image(&store, "one", &[&claimed]);
    store.images().keep_manifest(&id, manifest).unwrap();
    store.blobs().make(1).unwrap().unwrap().append(b"never finished").unwrap();
    std::fs::write(store.data().join("blobs/new-left.part"), "of a daemon that was killed").unwrap();
    let age = |digest: &Digest, hours: u64| {
        let file = std::fs::File::options().write(true).open(store.data().join("blobs").join(digest.hex()));
        file.unwrap().set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    age(&claimed, 100);
    age(&old, 25);
    age(&young, 23);
    store.open();
    let mut expected = [claimed.hex().to_owned(), young.hex().to_owned()];
    expected.sort();
    assert_eq!(store.names("blobs"), expected);
    // One byte is enough for one to go.
    assert!(store.blobs().evict(1).unwrap() > 0);
    assert_eq!(store.names("blobs"), [young.hex()]);
    let begun = store.blobs().begin(&old, 3).unwrap().unwrap();
    store.blobs().evict(u64::MAX).unwrap();
    assert_eq!(store.names("blobs"), [format!("{}.part", old.hex())], "what is being written stays");
    drop(begun);
}
