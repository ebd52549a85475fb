//! What no manifest lists goes; what one lists, or may list soon, stays.

use std::time::Duration;

use seacow_registry::server::Collect;
use serde_json::json;

use crate::wire::{INDEX, Lab, MANIFEST, digest};

const NOW: Collect = Collect { grace: Duration::ZERO, untagged: false };

#[test]
fn what_nothing_lists_goes() {
    let lab = Lab::new();
    let kept = lab.image("a", "v1", b"kept layer");
    let gone = lab.image("b", "v1", b"gone layer");
    lab.blob("b", b"never listed");
    lab.begin("b");
    // Everything is younger than a push may take.
    let none = lab.server().collect(Collect::default()).unwrap();
    assert_eq!((none.manifests, none.blobs, none.bytes, none.uploads), (0, 0, 0, 0));
    lab.ask("DELETE", &format!("/v2/b/manifests/{}", digest(&gone)), &[], &[]).is(202);
    let done = lab.server().collect(NOW).unwrap();
    // The layer, the manifest, what was never listed; the config is another image's too.
    assert_eq!((done.blobs, done.uploads), (3, 1));
    assert_eq!(done.bytes, (b"gone layer".len() + b"never listed".len() + gone.len()) as u64);
    assert_eq!(lab.get("/v2/a/manifests/v1").is(200).body, kept);
    lab.get(&format!("/v2/a/blobs/{}", digest(b"kept layer"))).is(200);
    lab.get(&format!("/v2/b/blobs/{}", digest(b"gone layer"))).is(404);
    assert_eq!(lab.server().counts().unwrap().1, 3);
    assert_eq!(lab.server().collect(NOW).unwrap().blobs, 0);
}

#[test]
fn a_mounted_blob_outlives_its_first_repository() {
    let lab = Lab::new();
    let manifest = lab.image("a", "v1", b"layer");
    let shared = digest(b"layer");
    lab.ask("POST", &format!("/v2/b/blobs/uploads/?mount={shared}&from=a"), &[], &[]).is(201);
    let other = lab.image("b", "v1", b"layer");
    lab.ask("DELETE", &format!("/v2/a/manifests/{}", digest(&manifest)), &[], &[]).is(202);
    lab.ask("DELETE", &format!("/v2/a/blobs/{shared}"), &[], &[]).is(202);
    lab.server().collect(NOW).unwrap();
    lab.get(&format!("/v2/b/blobs/{shared}")).is(200);
    assert_eq!(lab.get("/v2/b/manifests/v1").is(200).body, other);
}

#[test]
fn untagged_manifests_go_if_wanted_but_not_what_tags_need() {
    let lab = Lab::new();
    let old = lab.image("a", "v1", b"old layer");
    lab.image("a", "v1", b"new layer");
    let part = lab.manifest_of("a", b"part").to_string().into_bytes();
    lab.put_manifest("a", digest(&part).as_str(), MANIFEST, &part).is(201);
    let entry = json!({"mediaType": MANIFEST, "digest": digest(&part), "size": part.len()});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    lab.put_manifest("a", "all", INDEX, index.as_bytes()).is(201);
    let mut signature = lab.manifest_of("a", b"signature");
    signature["subject"] = json!({"mediaType": MANIFEST, "digest": digest(&part), "size": part.len()});
    let signature = signature.to_string().into_bytes();
    lab.put_manifest("a", digest(&signature).as_str(), MANIFEST, &signature).is(201);
    assert_eq!(lab.server().collect(NOW).unwrap().manifests, 0);
    lab.get(&format!("/v2/a/manifests/{}", digest(&old))).is(200);
    let done = lab.server().collect(Collect { untagged: true, ..NOW }).unwrap();
    assert_eq!(done.manifests, 1);
    lab.get(&format!("/v2/a/manifests/{}", digest(&old))).is(404);
    for stays in [digest(&part), digest(&signature)] {
        lab.get(&format!("/v2/a/manifests/{stays}")).is(200);
    }
    lab.get(&format!("/v2/a/blobs/{}", digest(b"signature"))).is(200);
    lab.get(&format!("/v2/a/blobs/{}", digest(b"old layer"))).is(404);
}
