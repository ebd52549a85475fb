//! Discovery and management: tags, repositories, deletion.

use serde_json::json;

use crate::wire::{Lab, digest};

#[test]
fn tags_in_order_and_by_pages() {
    let lab = Lab::new();
    lab.get("/v2/a/tags/list").refuses(404, "NAME_UNKNOWN");
    for tag in ["b", "a", "d", "c", "B"] {
        lab.image("a", tag, b"layer");
    }
    let all = lab.get("/v2/a/tags/list").is(200);
    assert_eq!(all.json(), json!({"name": "a", "tags": ["B", "a", "b", "c", "d"]}));
    assert_eq!(all.header("link"), "");
    let two = lab.get("/v2/a/tags/list?n=2").is(200);
    assert_eq!(two.json()["tags"], json!(["B", "a"]));
    assert_eq!(two.header("link"), "</v2/a/tags/list?last=a&n=2>; rel=\"next\"");
    let next = lab.get("/v2/a/tags/list?last=a&n=2").is(200);
    assert_eq!(next.json()["tags"], json!(["b", "c"]));
    let last = lab.get("/v2/a/tags/list?last=c&n=2").is(200);
    assert_eq!((last.json()["tags"].clone(), last.header("link")), (json!(["d"]), ""));
    // After a tag that is not there; none at all.
    assert_eq!(lab.get("/v2/a/tags/list?last=bb").json()["tags"], json!(["c", "d"]));
    assert_eq!(lab.get("/v2/a/tags/list?n=0").is(200).json()["tags"], json!([]));
    lab.get("/v2/a/tags/list?n=x").is(400);
}

#[test]
fn repositories_by_pages() {
    let lab = Lab::new();
    for name in ["b", "a/b", "a"] {
        lab.image(name, "v1", b"layer");
    }
    assert_eq!(lab.get("/v2/_catalog").json()["repositories"], json!(["a", "a/b", "b"]));
    let first = lab.get("/v2/_catalog?n=1");
    assert_eq!(first.json()["repositories"], json!(["a"]));
    assert_eq!(first.header("link"), "</v2/_catalog?last=a&n=1>; rel=\"next\"");
}

#[test]
fn tags_manifests_and_blobs_are_deleted() {
    let lab = Lab::new();
    let manifest = lab.image("a", "v1", b"layer");
    let digest_of = digest(&manifest);
    lab.image("a", "v2", b"layer");
    lab.ask("DELETE", "/v2/a/manifests/v1", &[], &[]).is(202);
    lab.get("/v2/a/manifests/v1").is(404);
    // The manifest stays, and so does its other tag.
    lab.get(&format!("/v2/a/manifests/{digest_of}")).is(200);
    lab.ask("DELETE", &format!("/v2/a/manifests/{digest_of}"), &[], &[]).is(202);
    lab.get(&format!("/v2/a/manifests/{digest_of}")).is(404);
    lab.get("/v2/a/manifests/v2").is(404);
    assert_eq!(lab.get("/v2/a/tags/list").json()["tags"], json!([]));
    lab.ask("DELETE", &format!("/v2/a/manifests/{digest_of}"), &[], &[]).refuses(404, "MANIFEST_UNKNOWN");
    lab.ask("DELETE", "/v2/a/manifests/nobody", &[], &[]).refuses(404, "MANIFEST_UNKNOWN");
    let blob = format!("/v2/a/blobs/{}", digest(b"layer"));
    lab.ask("DELETE", &blob, &[], &[]).is(202);
    lab.get(&blob).refuses(404, "BLOB_UNKNOWN");
    lab.ask("DELETE", &blob, &[], &[]).refuses(404, "BLOB_UNKNOWN");
}
