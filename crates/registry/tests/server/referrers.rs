//! What tells something of an image: signatures, bills of material, attestations.

use serde_json::{Value, json};

use crate::wire::{INDEX, Lab, MANIFEST, digest};

fn of(lab: &Lab, subject: &[u8], kind: &str, text: &str) -> Vec<u8> {
    let mut manifest = lab.manifest_of("a", text.as_bytes());
    manifest["artifactType"] = json!(kind);
    manifest["annotations"] = json!({"text": text});
    manifest["subject"] = json!({"mediaType": MANIFEST, "digest": digest(subject), "size": subject.len()});
    manifest.to_string().into_bytes()
}

fn listed(lab: &Lab, path: &str) -> Vec<Value> {
    let answer = lab.get(path).is(200);
    assert_eq!(answer.header("content-type"), INDEX);
    let index = answer.json();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(INDEX)));
    index["manifests"].as_array().unwrap().clone()
}

#[test]
fn referrers_are_listed_and_chosen_by_kind() {
    let lab = Lab::new();
    let subject = lab.image("a", "v1", b"layer");
    let path = format!("/v2/a/referrers/{}", digest(&subject));
    // None is no failure, whether there is such a manifest or not.
    assert_eq!(listed(&lab, &path), [] as [Value; 0]);
    assert_eq!(listed(&lab, &format!("/v2/a/referrers/{}", digest(b"x"))), [] as [Value; 0]);
    lab.get("/v2/a/referrers/x").refuses(400, "DIGEST_INVALID");
    let (one, two) = (of(&lab, &subject, "test/sbom", "one"), of(&lab, &subject, "test/signature", "two"));
    for referrer in [&one, &two] {
        let put = lab.put_manifest("a", digest(referrer).as_str(), MANIFEST, referrer).is(201);
        assert_eq!(put.header("oci-subject"), digest(&subject).as_str());
    }
    let all = listed(&lab, &path);
    assert_eq!(all.len(), 2);
    let sbom = all.iter().find(|entry| entry["artifactType"] == "test/sbom").unwrap();
    assert_eq!(sbom["digest"], digest(&one).as_str());
    assert_eq!(sbom["size"], one.len());
    assert_eq!(sbom["mediaType"], MANIFEST);
    assert_eq!(sbom["annotations"], json!({"text": "one"}));
    let answer = lab.get(&format!("{path}?artifactType=test%2Fsignature")).is(200);
    assert_eq!(answer.header("oci-filters-applied"), "artifactType");
    let chosen = answer.json()["manifests"].clone();
    assert_eq!(chosen.as_array().unwrap().len(), 1);
    assert_eq!(chosen[0]["digest"], digest(&two).as_str());
    // One that is deleted is listed no more.
    lab.ask("DELETE", &format!("/v2/a/manifests/{}", digest(&one)), &[], &[]).is(202);
    assert_eq!(listed(&lab, &path).len(), 1);
}

#[test]
fn a_subject_need_not_be_there() {
    let lab = Lab::new();
    let referrer = of(&lab, b"{}", "test/sbom", "early");
    let put = lab.put_manifest("a", "sbom", MANIFEST, &referrer).is(201);
    assert_eq!(put.header("oci-subject"), digest(b"{}").as_str());
    assert_eq!(listed(&lab, &format!("/v2/a/referrers/{}", digest(b"{}"))).len(), 1);
}

#[test]
fn the_config_says_the_kind_where_nothing_else_does() {
    let lab = Lab::new();
    let subject = lab.image("a", "v1", b"layer");
    let mut referrer = lab.manifest_of("a", b"text");
    referrer["config"]["mediaType"] = json!("test/config");
    referrer["subject"] = json!({"mediaType": MANIFEST, "digest": digest(&subject), "size": subject.len()});
    lab.put_manifest("a", "r", MANIFEST, referrer.to_string().as_bytes()).is(201);
    let all = listed(&lab, &format!("/v2/a/referrers/{}", digest(&subject)));
    assert_eq!(all[0]["artifactType"], "test/config");
}
