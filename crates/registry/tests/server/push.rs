//! Pushing: uploads in one request, in two, in pieces; mounting; manifests.

use std::io::Write as _;

use serde_json::json;

use crate::wire::{INDEX, Lab, MANIFEST, answer, digest};

const BYTES: &str = "Content-Type: application/octet-stream";

#[test]
fn a_blob_by_post_then_put() {
    let lab = Lab::new();
    let place = lab.begin("a/b");
    assert!(place.contains("/v2/a/b/blobs/uploads/"), "{place}");
    let digest = digest(b"content");
    let done = lab.ask("PUT", &format!("{place}?digest={digest}"), &[BYTES], b"content").is(201);
    assert_eq!(done.header("location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(done.header("docker-content-digest"), digest.as_str());
    assert_eq!(lab.get(done.header("location")).is(200).body, b"content");
    // The upload is over.
    lab.get(&place).refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_blob_by_one_post() {
    let lab = Lab::new();
    let digest = digest(b"content");
    let done = lab.ask("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[BYTES], b"content");
    assert_eq!(done.is(201).header("location"), format!("/v2/a/blobs/{digest}"));
    // One that is not what it says leaves nothing.
    let wrong = lab.ask("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[BYTES], b"other");
    wrong.refuses(400, "DIGEST_INVALID");
    assert_eq!(std::fs::read_dir(lab.config.root.join("uploads")).unwrap().count(), 0);
}

#[test]
fn a_blob_in_pieces() {
    let lab = Lab::new();
    let place = lab.begin("a");
    let first = lab.ask("PATCH", &place, &[BYTES, "Content-Range: 0-4"], b"01234").is(202);
    assert_eq!(first.header("range"), "0-4");
    let place = first.header("location").to_owned();
    // How far it is can be asked.
    let far = lab.get(&place).is(204);
    assert_eq!((far.header("range"), far.header("location")), ("0-4", place.as_str()));
    // Out of order is 416, and changes nothing.
    lab.ask("PATCH", &place, &[BYTES, "Content-Range: 7-9"], b"789").is(416);
    lab.ask("PATCH", &place, &[BYTES, "Content-Range: 0-4"], b"01234").is(416);
    let second = lab.ask("PATCH", &place, &[BYTES, "Content-Range: 5-6"], b"56").is(202);
    assert_eq!(second.header("range"), "0-6");
    // The last piece may come with the end, which names the digest.
    let whole = digest(b"0123456789");
    lab.ask("PUT", &format!("{place}?digest={whole}"), &[BYTES, "Content-Range: 7-9"], b"789").is(201);
    assert_eq!(lab.get(&format!("/v2/a/blobs/{whole}")).is(200).body, b"0123456789");
}

#[test]
fn a_stream_of_chunks_is_one_piece() {
    let lab = Lab::new();
    let place = lab.begin("a");
    let mut stream = lab.connect();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{BYTES}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n").unwrap();
    assert_eq!(answer(&stream, false).is(202).header("range"), "0-9");
    lab.ask("PUT", &format!("{place}?digest={}", digest(b"0123456789")), &[], &[]).is(201);
}

#[test]
fn what_came_of_a_broken_piece_is_kept_also_by_another_server() {
    let mut lab = Lab::new();
    let place = lab.begin("a");
    let mut stream = lab.connect();
    let head = format!("PATCH {place} HTTP/1.1\r\nHost: x\r\n{BYTES}\r\nContent-Length: 100\r\n\r\n01234");
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    // Nobody tells when the server has seen that.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while lab.get(&place).header("range") != "0-4" {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    lab.restart(|_| {});
    assert_eq!(lab.get(&place).is(204).header("range"), "0-4");
    lab.ask("PATCH", &place, &[BYTES, "Content-Range: 5-9"], b"56789").is(202);
    lab.ask("PUT", &format!("{place}?digest={}", digest(b"0123456789")), &[], &[]).is(201);
}

#[test]
fn an_upload_can_be_cancelled_and_belongs_to_its_repository() {
    let lab = Lab::new();
    let place = lab.begin("a");
    lab.ask("PATCH", &place.replace("/a/", "/b/"), &[BYTES], b"x").refuses(404, "BLOB_UPLOAD_UNKNOWN");
    lab.ask("DELETE", &place, &[], &[]).is(204);
    lab.ask("PATCH", &place, &[BYTES], b"x").refuses(404, "BLOB_UPLOAD_UNKNOWN");
    for id in ["x", "../../lock", "%2e%2e", "0000"] {
        lab.get(&format!("/v2/a/blobs/uploads/{id}")).is(404);
    }
}

#[test]
fn digests_are_checked() {
    let lab = Lab::new();
    let place = lab.begin("a");
    lab.ask("PUT", &place, &[BYTES], b"content").refuses(400, "DIGEST_INVALID");
    for wrong in ["sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e", "x"] {
        lab.ask("PUT", &format!("{place}?digest={wrong}"), &[BYTES], b"content")
            .refuses(400, "DIGEST_INVALID");
    }
    let other = digest(b"other");
    lab.ask("PUT", &format!("{place}?digest={other}"), &[BYTES], b"content").refuses(400, "DIGEST_INVALID");
    lab.head(&format!("/v2/a/blobs/{other}")).is(404);
}

#[test]
fn blobs_are_mounted_from_where_they_are() {
    let lab = Lab::new();
    let digest = lab.blob("from", b"content");
    let mounted = lab.ask("POST", &format!("/v2/to/blobs/uploads/?mount={digest}&from=from"), &[], &[]);
    assert_eq!(mounted.is(201).header("location"), format!("/v2/to/blobs/{digest}"));
    assert_eq!(lab.get(&format!("/v2/to/blobs/{digest}")).is(200).body, b"content");
    // Where it is not, an upload begins instead; so it does where nobody says where it is.
    for query in [format!("mount={digest}&from=nobody"), format!("mount={digest}")] {
        let begun = lab.ask("POST", &format!("/v2/third/blobs/uploads/?{query}"), &[], &[]).is(202);
        assert!(begun.header("location").contains("/uploads/"));
    }
    lab.head(&format!("/v2/third/blobs/{digest}")).is(404);
}

#[test]
fn manifests_are_taken_as_they_are() {
    let lab = Lab::new();
    let manifest = lab.manifest_of("a", b"layer");
    // Every byte counts: an order and spaces of the sender's own.
    let bytes = format!("  {}\n", serde_json::to_string_pretty(&manifest).unwrap()).into_bytes();
    let digest = digest(&bytes);
    let made = lab.put_manifest("a", "v1", MANIFEST, &bytes).is(201);
    assert_eq!(made.header("location"), format!("/v2/a/manifests/{digest}"));
    assert_eq!(made.header("docker-content-digest"), digest.as_str());
    assert_eq!(lab.get(made.header("location")).is(200).body, bytes);
    // By its digest it has no tag.
    lab.put_manifest("a", digest.as_str(), MANIFEST, &bytes).is(201);
    assert_eq!(lab.get("/v2/a/tags/list").json()["tags"], json!(["v1"]));
    // A tag goes over to another.
    let other = lab.image("a", "v1", b"other layer");
    assert_eq!(lab.get("/v2/a/manifests/v1").body, other);
    lab.get(&format!("/v2/a/manifests/{digest}")).is(200);
}

#[test]
fn an_index_and_what_it_lists() {
    let lab = Lab::new();
    let manifest = lab.manifest_of("a", b"layer").to_string().into_bytes();
    let entry = json!({"mediaType": MANIFEST, "digest": digest(&manifest), "size": manifest.len()});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    lab.put_manifest("a", "all", INDEX, index.as_bytes()).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    lab.put_manifest("a", digest(&manifest).as_str(), MANIFEST, &manifest).is(201);
    lab.put_manifest("a", "all", INDEX, index.as_bytes()).is(201);
    assert_eq!(lab.get("/v2/a/manifests/all").header("content-type"), INDEX);
}

#[test]
fn manifests_that_are_refused() {
    let lab = Lab::new();
    let good = lab.manifest_of("a", b"layer");
    let put = |target: &str, kind: &str, bytes: &[u8]| lab.put_manifest("a", target, kind, bytes);
    let text = good.to_string();
    put("v1", MANIFEST, b"not JSON").refuses(400, "MANIFEST_INVALID");
    put("v1", MANIFEST, b"[]").refuses(400, "MANIFEST_INVALID");
    put("v1", MANIFEST, b"{}").refuses(400, "MANIFEST_INVALID");
    put("v1", INDEX, text.as_bytes()).refuses(400, "MANIFEST_INVALID");
    put("v1", "text/plain", text.as_bytes()).refuses(400, "MANIFEST_INVALID");
    put(digest(b"other").as_str(), MANIFEST, text.as_bytes()).refuses(400, "DIGEST_INVALID");
    put("-v1", MANIFEST, text.as_bytes()).refuses(400, "TAG_INVALID");
    lab.put_manifest("A", "v1", MANIFEST, text.as_bytes()).refuses(400, "NAME_INVALID");
    // What it lists has to be in this repository.
    lab.put_manifest("b", "v1", MANIFEST, text.as_bytes()).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    let large = format!("{{\"x\":\"{}\"}}", "a".repeat(5 << 20));
    put("v1", MANIFEST, large.as_bytes()).refuses(413, "SIZE_INVALID");
    lab.get("/v2/a/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
}
