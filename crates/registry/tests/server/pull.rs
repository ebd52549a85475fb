//! Pulling: manifests and blobs.

use crate::wire::{Lab, MANIFEST, digest};

#[test]
fn the_version_check_answers_200() {
    let lab = Lab::new();
    let answer = lab.get("/v2/").is(200);
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    lab.get("/v2").is(200);
    lab.get("/").is(404);
}

#[test]
fn manifests_by_tag_and_by_digest() {
    let lab = Lab::new();
    let manifest = lab.image("some/name", "v1", b"layer");
    let digest = digest(&manifest);
    for target in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/some/name/manifests/{target}");
        let got = lab.get(&path).is(200);
        assert_eq!(got.body, manifest);
        // As it was told when it was pushed.
        assert_eq!(got.header("content-type"), MANIFEST);
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
        let head = lab.head(&path).is(200);
        assert_eq!(head.header("content-length"), manifest.len().to_string());
        assert_eq!(head.header("docker-content-digest"), digest.as_str());
        assert!(head.body.is_empty());
        // Who has it already is not sent it again.
        let known = format!("If-None-Match: \"{digest}\"");
        lab.ask("GET", &path, &[&known], &[]).is(304);
    }
    // Accept is obeyed as far as there is a choice: there is none.
    let only = lab.ask("GET", "/v2/some/name/manifests/v1", &["Accept: application/json"], &[]);
    assert_eq!(only.is(200).body, manifest);
}

#[test]
fn what_is_not_there_is_404() {
    let lab = Lab::new();
    lab.get("/v2/nobody/manifests/v1").refuses(404, "NAME_UNKNOWN");
    lab.image("some", "v1", b"layer");
    lab.get("/v2/some/manifests/v2").refuses(404, "MANIFEST_UNKNOWN");
    let other = digest(b"other");
    lab.get(&format!("/v2/some/manifests/{other}")).refuses(404, "MANIFEST_UNKNOWN");
    lab.get(&format!("/v2/some/blobs/{other}")).refuses(404, "BLOB_UNKNOWN");
    lab.head(&format!("/v2/some/blobs/{other}")).is(404);
    // What another repository has is not this one's.
    lab.get(&format!("/v2/else/blobs/{}", digest(b"layer"))).refuses(404, "BLOB_UNKNOWN");
}

#[test]
fn blobs_whole_and_in_part() {
    let lab = Lab::new();
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = lab.blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    let whole = lab.get(&path).is(200);
    assert!(whole.body == bytes);
    assert_eq!(whole.header("docker-content-digest"), digest.as_str());
    assert_eq!(whole.header("content-length"), bytes.len().to_string());
    let head = lab.head(&path).is(200);
    assert_eq!(head.header("content-length"), bytes.len().to_string());
    assert_eq!(head.header("docker-content-digest"), digest.as_str());
    for (range, from, to) in
        [("bytes=0-99", 0, 100), ("bytes=300000-", 300_000, 700_000), ("bytes=-10", 699_990, 700_000)]
    {
        let part = lab.ask("GET", &path, &[&format!("Range: {range}")], &[]).is(206);
        assert!(part.body == bytes[from..to], "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/700000", to - 1));
    }
    let outside = lab.ask("GET", &path, &["Range: bytes=700000-"], &[]).is(416);
    assert_eq!(outside.header("content-range"), "bytes */700000");
    // Encoded as clients may.
    lab.get(&path.replace("sha256:", "sha256%3A")).is(200);
}
